//! What is wrong, in words: the banner of the dashboard.

use serde::Serialize;

use crate::database::Health;
use crate::serve::hub::{Facts, Tier};
use crate::serve::pulse::{Pulse, View};

/// A row that waits longer in the outbox is a problem, in seconds. The relay polls each second.
const LONG_S: f64 = 3.0;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) what: String,
    /// What callers see, and what the cache does.
    pub(crate) effect: String,
}

/// Everything that is wrong, the causes first.
pub(crate) fn of(facts: &Facts, pulse: &Pulse) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(broken_promise(pulse));
    problems.extend(ended(pulse));
    problems.extend(no_tier(facts, pulse));
    problems.extend(no_subscriber(facts, pulse));
    problems.extend(in_doubt(facts, pulse));
    problems.extend(database(pulse.switches.database));
    problems.extend(pending(facts, pulse));
    problems.extend(outbox(facts, pulse));
    problems
}

impl Problem {
    fn new(what: impl Into<String>, effect: impl Into<String>) -> Self {
        Self { what: what.into(), effect: effect.into() }
    }
}

fn broken_promise(pulse: &Pulse) -> Option<Problem> {
    let stale = pulse.promise.stale;
    let effect = "This is a bug of the cache. Please report it.";
    (stale > 0).then(|| Problem::new(format!("{stale} reads were older than the promise."), effect))
}

fn ended(pulse: &Pulse) -> Option<Problem> {
    let (who, verb) = names(pulse, |view| !view.alive)?;
    Some(Problem::new(format!("{who} {verb} ended."), "The others serve on."))
}

fn no_tier(facts: &Facts, pulse: &Pulse) -> Option<Problem> {
    let (tier, ttl) = (facts.tier.name(), facts.ttl_s);
    if !pulse.switches.tier_stopped {
        let (who, _) = names(pulse, |view| view.alive && !view.reaches_tier)?;
        let effect = "Its own memory answers until a copy expires, and then the database.";
        return Some(Problem::new(format!("{who} cannot reach {tier}."), effect));
    }
    let what = match facts.tier {
        Tier::Memory => format!("{} is stopped.", capitalised(tier)),
        Tier::OwnRedis | Tier::ForeignRedis => "Redis is stopped: its process hangs.".into(),
    };
    let effect = format!(
        "Each instance answers from its own memory until a copy expires, after at most {ttl} s, and then from the database. A change shows on the other instances by then."
    );
    Some(Problem::new(what, effect))
}

fn no_subscriber(facts: &Facts, pulse: &Pulse) -> Option<Problem> {
    let (who, _) = names(pulse, |view| view.alive && is_cut(pulse, view))?;
    let what = format!("{who} hears no invalidations: the subscriber is cut.");
    if pulse.switches.tier_stopped {
        return Some(Problem::new(what, ""));
    }
    let tier = capitalised(facts.tier.name());
    let effect =
        format!("Its own memory does not answer, because it may be out of date. {tier} answers instead.");
    Some(Problem::new(what, effect))
}

/// L1 does not answer, and nothing above explains it.
fn in_doubt(facts: &Facts, pulse: &Pulse) -> Option<Problem> {
    let unexplained =
        |view: &View| view.alive && view.reaches_tier && !view.l1_serves && !is_cut(pulse, view);
    let (who, _) = names(pulse, unexplained).filter(|_| !pulse.switches.tier_stopped)?;
    let tier = capitalised(facts.tier.name());
    let effect = format!("Its own memory does not answer until that is settled. {tier} answers instead.");
    Some(Problem::new(format!("{who} may have missed invalidations."), effect))
}

fn database(health: Health) -> Option<Problem> {
    let (what, effect) = match health {
        Health::Normal => return None,
        Health::Slow => (
            "The database is slow: a query takes 1 s longer.",
            "An expired product is answered with its last value after 0.1 s, while the query goes on. A product without any value waits.",
        ),
        Health::Failing => (
            "The database fails.",
            "An expired product is answered with its last value, and its query is retried after 1 s at the earliest. A product without any value is an error.",
        ),
    };
    Some(Problem::new(what, effect))
}

fn pending(facts: &Facts, pulse: &Pulse) -> Option<Problem> {
    let pending: u64 = pulse.instances.iter().map(|view| view.pending_invalidations).sum();
    let changes = if pending == 1 { "change has" } else { "changes have" };
    let what = format!("{pending} {changes} not reached {} yet.", facts.tier.name());
    (pending > 0).then(|| Problem::new(what, "The instance that wrote retries until it does."))
}

fn outbox(facts: &Facts, pulse: &Pulse) -> Option<Problem> {
    let outbox = pulse.outbox.as_ref()?;
    if outbox.at_work.is_none() {
        let effect = "Rows wait in the outbox until another instance takes over, after about 10 s.";
        return Some(Problem::new("No relay is at work.", effect));
    }
    let (rows, oldest, tier) = (outbox.rows, outbox.oldest_s, facts.tier.name());
    let wait = if rows == 1 { "row waits" } else { "rows wait" };
    let what = format!("{rows} {wait} in the outbox, the oldest for {oldest:.0} s.");
    let effect = format!("The relay tries again until {tier} has taken the invalidations.");
    (rows > 0 && oldest >= LONG_S).then(|| Problem::new(what, effect))
}

fn is_cut(pulse: &Pulse, view: &View) -> bool {
    pulse.switches.cut.get(usize::from(view.instance) - 1).copied().unwrap_or_default()
}

/// "Instance 2", or "Instances 1 and 3", and the verb that fits. `None` if there are none.
fn names(pulse: &Pulse, concerned: impl Fn(&View) -> bool) -> Option<(String, &'static str)> {
    let views = pulse.instances.iter().filter(|view| concerned(view));
    let mut numbers: Vec<_> = views.map(|view| view.instance.to_string()).collect();
    let last = numbers.pop()?;
    Some(match numbers.is_empty() {
        true => (format!("Instance {last}"), "has"),
        false => (format!("Instances {} and {last}", numbers.join(", ")), "have"),
    })
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::hub::Switches;
    use crate::serve::pulse::Outbox;

    fn facts(tier: Tier) -> Facts {
        Facts {
            mode: String::new(),
            tier,
            instances: 3,
            products: 1,
            quiet: 4,
            ttl_s: 10.0,
            query_ms: 2,
            rate: 0,
            outbox: false,
        }
    }

    fn healthy() -> Pulse {
        let view =
            |instance| View { instance, alive: true, l1_serves: true, reaches_tier: true, ..View::default() };
        let switches = Switches { cut: vec![false; 3], ..Switches::default() };
        Pulse { instances: (1..=3).map(view).collect(), switches, ..Pulse::default() }
    }

    fn said(tier: Tier, change: impl FnOnce(&mut Pulse)) -> Vec<String> {
        let mut pulse = healthy();
        change(&mut pulse);
        of(&facts(tier), &pulse).into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn an_outbox_that_is_not_emptied_is_a_problem() {
        let with = |outbox: Outbox| said(Tier::OwnRedis, |pulse| pulse.outbox = Some(outbox));
        let at_work = Outbox { at_work: Some(1), ..Outbox::default() };
        assert_eq!(with(at_work.clone()), [""; 0]);
        assert_eq!(with(Outbox { rows: 1, oldest_s: 1.2, ..at_work.clone() }), [""; 0]);
        let long = Outbox { rows: 2, oldest_s: 12.0, ..at_work };
        assert_eq!(with(long), ["2 rows wait in the outbox, the oldest for 12 s."]);
        assert_eq!(with(Outbox::default()), ["No relay is at work."]);
    }

    #[test]
    fn each_problem_is_said_once_and_by_its_cause() {
        assert_eq!(said(Tier::Memory, |_| ()), [""; 0]);
        let cut = |pulse: &mut Pulse| {
            (pulse.switches.cut[1], pulse.instances[1].l1_serves) = (true, false);
        };
        assert_eq!(said(Tier::Memory, cut), ["Instance 2 hears no invalidations: the subscriber is cut."]);
        let stopped = |pulse: &mut Pulse| {
            pulse.switches.tier_stopped = true;
            pulse.instances.iter_mut().for_each(|view| (view.l1_serves, view.reaches_tier) = (false, false));
        };
        assert_eq!(said(Tier::Memory, stopped), ["The shared tier is stopped."]);
        assert_eq!(said(Tier::OwnRedis, stopped), ["Redis is stopped: its process hangs."]);
        let away = |pulse: &mut Pulse| {
            pulse.instances.iter_mut().for_each(|view| (view.l1_serves, view.reaches_tier) = (false, false));
        };
        assert_eq!(said(Tier::ForeignRedis, away), ["Instances 1, 2 and 3 cannot reach Redis."]);
        let ended = |pulse: &mut Pulse| pulse.instances[2].alive = false;
        assert_eq!(said(Tier::OwnRedis, ended), ["Instance 3 has ended."]);
        let two = |pulse: &mut Pulse| {
            pulse.switches.database = Health::Failing;
            pulse.instances[0].pending_invalidations = 1;
        };
        assert_eq!(
            said(Tier::Memory, two),
            ["The database fails.", "1 change has not reached the shared tier yet."]
        );
    }
}
