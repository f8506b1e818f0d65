//! Jitter spreads the expiries of what was filled together; no tier prolongs a life.

use async_cache_core::testing::{No, ms};

use crate::rig::{Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => { a_thousand_keys_do_not_expire_together }
    both: crate::rig::Tiers::both() => {
        a_thousand_keys_do_not_expire_together, a_copy_lives_no_longer_than_its_original,
    }
}

async fn a_thousand_keys_do_not_expire_together(tiers: Tiers) {
    let cache = tiers.node(|builder| builder.ttl(secs(100)).ttl_jitter(0.1)).await;
    let keys: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for key in &keys {
        cache.get_or_load(key, || async { Ok::<_, No>(1) }).await.unwrap();
    }
    pass(ms(89_990)).await;
    let mut left = Vec::new();
    for _ in 0..=10 {
        let answers = cache.get_many(keys.iter()).await.unwrap();
        left.push(answers.iter().flatten().count());
        pass(secs(1)).await;
    }
    assert_eq!(left[0], 1000, "from 90 s");
    // Uniform: one in the last 10 ms, and 100 in each second. The draws of a thousand keys leave these limits once in
    // 10^10 runs; without jitter all keys are left, and half of it leaves seconds in which none expires.
    assert!(left[10] <= 15, "to 100 s, give or take 10 ms: {left:?}");
    for second in left.windows(2) {
        assert!((40..=172).contains(&(second[0] - second[1])), "{left:?}");
    }
}

async fn a_copy_lives_no_longer_than_its_original(tiers: Tiers) {
    let one = tiers.node(|builder| builder.ttl(secs(100)).ttl_jitter(0.1)).await;
    let other = tiers.node(|builder| builder.ttl(secs(100)).ttl_jitter(0.1)).await;
    for n in 0..100 {
        let key = n.to_string();
        one.get_or_load(&key, || async { Ok::<_, No>(1) }).await.unwrap();
    }
    pass(secs(85)).await;
    for n in 0..100 {
        assert!(other.contains(&n.to_string()).await.unwrap());
    }
    for _ in 0..160 {
        pass(ms(100)).await;
        for n in 0..100 {
            let key = n.to_string();
            if one.contains(&key).await.unwrap() != other.contains(&key).await.unwrap() {
                // Times between nodes are good to some milliseconds.
                pass(ms(4)).await;
                assert!(
                    !one.contains(&key).await.unwrap() && !other.contains(&key).await.unwrap(),
                    "one draw for all"
                );
            }
        }
    }
}
