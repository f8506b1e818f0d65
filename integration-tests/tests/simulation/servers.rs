//! Partitions on different servers.

use integration_tests::simulation::{Plan, Trouble, whole};

/// Otherwise the other tests of this program would say little about it.
#[test]
fn many_seeds_have_several_servers_and_faults_of_one_alone() {
    let plans: Vec<Plan> = (0..1_000).map(Plan::draw).filter(|plan| plan.servers > 1).collect();
    let steady: Vec<&Plan> =
        plans.iter().filter(|plan| plan.steady && plan.trouble != Trouble::None).collect();
    println!("of several servers: {:?}", plans.iter().map(|plan| plan.seed).collect::<Vec<_>>());
    println!("that are steady: {:?}", steady.iter().map(|plan| plan.seed).collect::<Vec<_>>());
    assert!(plans.len() > 80 && steady.len() > 40, "{} and {} of 1,000", plans.len(), steady.len());
    for trouble in [Trouble::Bus, Trouble::Commands, Trouble::Server, Trouble::Everything] {
        assert!(steady.iter().any(|plan| plan.trouble == trouble), "none with {trouble:?}");
    }
    let spread = (0..1_000).filter(|seed| whole::Plan::draw(*seed).servers > 1).count();
    assert!(spread > 100, "{spread} of 1,000");
}
