//! The run of one call.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache::key::Key;
use async_cache::request::{GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};
use async_cache::testing::No;
use async_cache::{DataLoader, Error, LoadContext, LoadOptions, Loaded, Result, Stamp, StoreOptions, Traced};

use super::Cache;
use super::call::{Call, Gathering};
use super::options::{Options, set, set_all, set_choice, set_load, set_load_only, set_store, set_tags};
use super::source::{Ask, Brought, Source, What};
use super::value::Written;
use super::verb::Verb;

/// The answer for a key.
pub type Answer = Option<Arc<Written>>;

/// The outcome of a call.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The keys and their answers.
    Answers(Vec<(u64, Result<Answer>)>),
    /// A key, its answer, and where that was found.
    Traced(u64, Result<Traced<Answer>>),
    /// Whether there is a value.
    Contains(Result<bool>),
    /// The result of a change: the point from which every read reflects it.
    Changed(Result<Stamp>),
    /// The result of a change through a `DataLoader`, which returns no stamp.
    Updated(Result<()>),
    /// The numbers of keys that were loaded, skipped and absent; and the keys that failed.
    Warmed([usize; 3], Vec<(u64, Error)>),
}

/// One value or absence, as a loader of one key returns it.
fn given(brought: Option<Brought>) -> Result<Option<Loaded<Written>>, No> {
    let Some(Brought { what, choice, cached, .. }) = brought else { return Err(No(0)) };
    let loaded = match what {
        What::Value(value) => Loaded::new(value),
        What::Unchanged => Loaded::unchanged(),
        What::Absent => return Ok(None),
        What::LeftOut | What::Refused => return Err(No(0)),
    };
    let loaded = set_choice!(loaded, &choice);
    Ok(Some(if cached { loaded } else { loaded.uncached() }))
}

async fn one(source: impl Source, ask: Ask) -> Result<Option<Loaded<Written>>, No> {
    given(source.run(ask).await?.pop())
}

async fn certain(source: impl Source, ask: Ask) -> Result<Loaded<Written>, No> {
    one(source, ask).await?.ok_or(No(0))
}

type Batch = HashMap<u64, Option<Loaded<Written>>>;

async fn batch(source: impl Source, ask: Ask) -> Result<Batch, No> {
    let mut found = HashMap::new();
    for brought in source.run(ask).await? {
        if !matches!(brought.what, What::LeftOut | What::Refused) {
            found.insert(brought.key, given(Some(brought))?);
        }
    }
    Ok(found)
}

async fn each(source: impl Source, ask: Ask) -> HashMap<u64, Result<Option<Loaded<Written>>, No>> {
    let keys = ask.keys.clone();
    match source.run(ask).await {
        Ok(found) => {
            let kept = found.into_iter().filter(|brought| !matches!(brought.what, What::LeftOut));
            kept.map(|brought| (brought.key, given(Some(brought)))).collect()
        }
        Err(No(why)) => keys.into_iter().map(|key| (key, Err(No(why)))).collect(),
    }
}

fn ask(call: &Call, keys: Vec<u64>, context: Option<LoadContext<Written>>) -> Ask {
    let previous = context.and_then(|context| context.previous().cloned());
    Ask { call: call.clone(), keys, previous }
}

fn some<V>(outcome: Result<Arc<V>>) -> Result<Option<Arc<V>>> {
    outcome.map(Some)
}

fn all(keys: &[u64], outcome: Result<Vec<Answer>>) -> Outcome {
    Outcome::Answers(match outcome {
        Ok(answers) => keys.iter().copied().zip(answers.into_iter().map(Ok)).collect(),
        Err(error) => keys.iter().map(|key| (*key, Err(error.clone()))).collect(),
    })
}

/// Makes the call. `need` is the stamp that it requires.
pub async fn perform<S: Source>(cache: &Cache, source: &S, call: &Call, need: Option<&Stamp>) -> Outcome {
    let answer = |outcome| Outcome::Answers(vec![(call.keys[0], outcome)]);
    let need = need.filter(|_| call.insists);
    let key = &call.keys[0];
    match call.verb {
        Verb::Get => {
            let asked = cache.get(key);
            let asked = if let Some(stamp) = need { asked.at_least(stamp) } else { asked };
            let asked = if call.skips_l1 { asked.skip_l1() } else { asked };
            match call.traced {
                true => Outcome::Traced(*key, asked.traced().await),
                false => answer(asked.await),
            }
        }
        Verb::Contains => Outcome::Contains(cache.contains(key).await),
        Verb::GetMany => {
            let asked = cache.get_many(&call.keys);
            let asked = if let Some(stamp) = need { asked.at_least(stamp) } else { asked };
            let asked = if call.skips_l1 { asked.skip_l1() } else { asked };
            all(&call.keys, asked.await)
        }
        Verb::GetOrLoad | Verb::GetOrLoadWith | Verb::GetOrLoadOptional if call.traced => {
            Outcome::Traced(*key, load_traced(cache, source, call, need).await)
        }
        Verb::GetOrLoad
        | Verb::GetOrLoadWith
        | Verb::GetOrLoadOptional
        | Verb::Refresh
        | Verb::RefreshWith
        | Verb::RefreshOptional => answer(load_one(cache, source, call, need).await),
        Verb::GetManyOrLoad => load_many(cache, source, call, need).await,
        Verb::Warm | Verb::WarmMany => warm(cache, source, call).await,
        Verb::Load | Verb::LoadEach | Verb::LoaderLoad | Verb::LoaderLoadMany => {
            gather(cache, source, call).await
        }
        Verb::Insert
        | Verb::InsertMany
        | Verb::LoaderPrime
        | Verb::Invalidate
        | Verb::InvalidateMany
        | Verb::InvalidateEncoded
        | Verb::InvalidateTag
        | Verb::InvalidateTags
        | Verb::InvalidateAll
        | Verb::Expire
        | Verb::ExpireMany
        | Verb::ExpireTag
        | Verb::ExpireTags
        | Verb::LoaderClear
        | Verb::LoaderClearAll => change(cache, source, call).await,
    }
}

macro_rules! amended {
    ($($name:ident $request:ident $set:ident $($skip:ident)?;)*) => {$(
        fn $name<'a, F: Send>(
            request: $request<'a, Written, u64, F>,
            call: &Call,
            need: Option<&'a Stamp>,
        ) -> $request<'a, Written, u64, F> {
            let request = $set!(request, &call.options);
            $(let request = if call.skips_l1 { request.$skip() } else { request };)?
            if let Some(stamp) = need { request.at_least(stamp) } else { request }
        }
    )*};
}
amended! {
    amended GetOrLoad set_all skip_l1;
    amended_optional GetOrLoadOptional set_all skip_l1;
    amended_refresh Refresh set_load;
    amended_refresh_optional RefreshOptional set_load;
}

async fn load_one<S: Source>(cache: &Cache, source: &S, call: &Call, need: Option<&Stamp>) -> Result<Answer> {
    let key = &call.keys[0];
    let (source, own) = (source.clone(), call.clone());
    let optional = {
        let (source, own) = (source.clone(), own.clone());
        move || one(source, ask(&own, own.keys.clone(), None))
    };
    let plain = {
        let (source, own) = (source.clone(), own.clone());
        move || certain(source, ask(&own, own.keys.clone(), None))
    };
    let informed =
        move |context: LoadContext<Written>| certain(source, ask(&own, own.keys.clone(), Some(context)));
    match call.verb {
        Verb::GetOrLoadWith => some(amended(cache.get_or_load_with(key, informed), call, need).await),
        Verb::GetOrLoadOptional => {
            amended_optional(cache.get_or_load_optional(key, optional), call, need).await
        }
        Verb::Refresh => some(amended_refresh(cache.refresh(key, plain), call, need).await),
        Verb::RefreshWith => some(amended_refresh(cache.refresh_with(key, informed), call, need).await),
        Verb::RefreshOptional => {
            amended_refresh_optional(cache.refresh_optional(key, optional), call, need).await
        }
        _ => some(amended(cache.get_or_load(key, plain), call, need).await),
    }
}

/// A lookup that also tells where its answer was found.
async fn load_traced<S: Source>(
    cache: &Cache,
    source: &S,
    call: &Call,
    need: Option<&Stamp>,
) -> Result<Traced<Answer>> {
    let (key, source, own) = (&call.keys[0], source.clone(), call.clone());
    let wrap = |Traced { value, source, age }| Traced { value: Some(value), source, age };
    match call.verb {
        Verb::GetOrLoadOptional => {
            let load = move || one(source, ask(&own, own.keys.clone(), None));
            amended_optional(cache.get_or_load_optional(key, load), call, need).traced().await
        }
        Verb::GetOrLoadWith => {
            let load = move |context: LoadContext<Written>| {
                certain(source, ask(&own, own.keys.clone(), Some(context)))
            };
            amended(cache.get_or_load_with(key, load), call, need).traced().await.map(wrap)
        }
        _ => {
            let load = move || certain(source, ask(&own, own.keys.clone(), None));
            amended(cache.get_or_load(key, load), call, need).traced().await.map(wrap)
        }
    }
}

async fn load_many<S: Source>(cache: &Cache, source: &S, call: &Call, need: Option<&Stamp>) -> Outcome {
    let (source, own) = (source.clone(), call.clone());
    let asked =
        cache.get_many_or_load(&call.keys, move |keys: Vec<u64>| batch(source, ask(&own, keys, None)));
    let asked = set_all!(asked, &call.options);
    let asked = if let Some(stamp) = need { asked.at_least(stamp) } else { asked };
    let asked = if call.skips_l1 { asked.skip_l1() } else { asked };
    all(&call.keys, asked.await)
}

async fn warm<S: Source>(cache: &Cache, source: &S, call: &Call) -> Outcome {
    let (source, own, keys) = (source.clone(), call.clone(), call.distinct());
    let report = match call.verb {
        Verb::WarmMany => {
            let load = move |keys: Vec<u64>| batch(source.clone(), ask(&own, keys, None));
            set_load!(cache.warm_many(keys, load), &call.options).batch_size(2).await
        }
        _ => {
            let load = move |key: u64| certain(source.clone(), ask(&own, vec![key], None));
            set_load!(cache.warm(keys, load), &call.options).concurrency(2).await
        }
    };
    Outcome::Warmed([report.loaded, report.skipped, report.absent], report.failed)
}

/// A `DataLoader` over the cache, with the settings of the call.
fn loader<S: Source>(cache: &Cache, source: &S, call: &Call) -> DataLoader<u64, Written> {
    let (source, own) = (source.clone(), call.clone());
    let loader: DataLoader<u64, Written> = match call.verb {
        Verb::LoadEach => cache.data_loader_each(move |keys| each(source.clone(), ask(&own, keys, None))),
        _ => cache.data_loader(move |keys| batch(source.clone(), ask(&own, keys, None))),
    };
    let Gathering { max_batch_size, delay, max_pending, load_timeout } = call.gathering;
    let loader = loader.max_batch_size(max_batch_size).delay(delay);
    let loader = match max_pending {
        Some(keys) => loader.max_pending(keys),
        None => loader,
    };
    let options = &call.options;
    let loader = match *options == Options::default() {
        true => loader,
        false => {
            let store = set_store!(StoreOptions::new(), options);
            let load = set_load_only!(LoadOptions::new(), options);
            // An absence may also be stored.
            let store = set!(store, options; negative_ttl);
            loader.options((store, load))
        }
    };
    match load_timeout {
        Some(limit) => loader.load_timeout(limit),
        None => loader,
    }
    .build()
}

async fn gather<S: Source>(cache: &Cache, source: &S, call: &Call) -> Outcome {
    let loader = loader(cache, source, call);
    let outcomes = match call.verb {
        Verb::LoaderLoadMany => loader.load_many(call.keys.clone()).await,
        _ => futures_util::future::join_all(call.keys.iter().map(|key| loader.load(*key))).await,
    };
    Outcome::Answers(call.keys.iter().copied().zip(outcomes).collect())
}

async fn change<S: Source>(cache: &Cache, source: &S, call: &Call) -> Outcome {
    let key = &call.keys[0];
    let loader = || loader(cache, source, call);
    let tags = &call.effective.tags;
    Outcome::Changed(match call.verb {
        Verb::Insert => {
            let asked = cache.insert(key, source.to_store(call, *key));
            set_store!(asked, &call.options).await
        }
        Verb::InsertMany => {
            let entries = call.distinct().into_iter().map(|key| (key, source.to_store(call, key)));
            set_store!(cache.insert_many(entries), &call.options).await
        }
        Verb::LoaderPrime => {
            return Outcome::Updated(loader().prime(*key, source.to_store(call, *key)).await);
        }
        Verb::LoaderClear => return Outcome::Updated(loader().clear(key).await),
        Verb::LoaderClearAll => return Outcome::Updated(loader().clear_all().await),
        Verb::InvalidateMany => cache.invalidate_many(&call.keys).await,
        Verb::InvalidateEncoded => {
            let keys = call.keys.iter().map(|key| Key::encode(key).expect("a short key")).collect();
            cache.invalidator().invalidate_many(keys).await
        }
        Verb::InvalidateTag => cache.invalidate_tag(tags.first().map_or("none", String::as_str)).await,
        Verb::InvalidateTags => cache.invalidate_tags(tags).await,
        Verb::InvalidateAll => cache.invalidate_all().await,
        Verb::Expire => cache.expire(key).await,
        Verb::ExpireMany => cache.expire_many(&call.keys).await,
        Verb::ExpireTag => cache.expire_tag(tags.first().map_or("none", String::as_str)).await,
        Verb::ExpireTags => cache.expire_tags(tags).await,
        _ => cache.invalidate(key).await,
    })
}
