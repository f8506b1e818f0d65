//! Layers that cache HTTP responses, side by side in one process: what each does with the rules of RFC 9111, and how
//! many hits it answers in a second. `cargo run --release --manifest-path benchmarks/layers/Cargo.toml`.

mod handler;
mod rules;
mod sides;

use std::time::{Duration, Instant};

use http::Request;

use crate::sides::Side;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(300);

fn request(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "shop.example")
}

/// Hits in a second, of one client that waits for each answer and reads its body.
async fn hits(side: &Side) -> f64 {
    let ask = || side.ask(request("/hit").header("x-send-cache-control", "max-age=600"));
    ask().await;
    let (begun, before, mut asked) = (Instant::now(), side.runs(), 0);
    while begun.elapsed() < ROUND {
        for _ in 0..100 {
            assert_eq!(ask().await.body.len(), handler::BODY);
        }
        asked += 100;
    }
    assert!(!side.caches || side.runs() == before, "{}: a hit ran the handler", side.name);
    f64::from(asked) / begun.elapsed().as_secs_f64()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sides = sides::all();
    println!("| asked | {} |", sides.iter().map(|side| side.name).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(sides.len()));
    for rule in rules::all() {
        let mut row = vec![rule.name.to_owned()];
        for side in &sides {
            row.push(if side.caches { (rule.judge)(side.clone()).await } else { "-".to_owned() });
        }
        println!("| {} |", row.join(" | "));
    }
    // Interleaved: each round asks every side once, so that what else the machine does strikes all alike.
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (side, of) in sides.iter().zip(&mut rounds) {
            of.push(hits(side).await);
        }
    }
    let ours = rounds.iter().zip(&sides).find(|(_, side)| side.name == sides::OURS).map(|(of, _)| of.clone());
    let ours = ours.expect("ours is among the sides");
    println!("\n| side | hits a second, of one thread | beside ours |\n|---|---|---|");
    for (side, of) in sides.iter().zip(rounds) {
        let ratio = median(of.iter().zip(&ours).map(|(other, ours)| other / ours).collect());
        println!("| {} | {:.0} | {ratio:.2} x |", side.name, median(of));
    }
}
