//! Layers that cache HTTP responses, side by side in one process: what each does with the rules of RFC 9111, and how
//! many hits it answers in a second. `cargo run --release --manifest-path benchmarks/layers/Cargo.toml`.

mod handler;
mod rules;
mod sides;

use std::time::{Duration, Instant};

use http::Request;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::sides::Side;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(300);

fn request(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "shop.example")
}

/// Hits in a second, of one client that waits for each answer and reads its body.
async fn hits(side: &Side) -> f64 {
    let ask = || {
        let request = request("/hit").header("x-send-cache-control", "max-age=600");
        side.ask(request.header("x-send-content-type", "text/plain"))
    };
    let stored = ask().await;
    let (begun, before, mut asked) = (Instant::now(), side.runs(), 0_u32);
    while begun.elapsed() < ROUND {
        for _ in 0..100 {
            assert_eq!(ask().await.body.len(), handler::BODY);
        }
        asked += 100;
    }
    let a_second = f64::from(asked) / begun.elapsed().as_secs_f64();
    let ran = side.runs() - before;
    if side.caches {
        assert_eq!(ran, 0, "{}: a hit ran the handler", side.name);
        let hit = ask().await;
        assert_eq!(hit.status, stored.status, "{}", side.name);
        assert_eq!(hit.body, stored.body, "{}: a body says which run of the handler made it", side.name);
        for name in [CACHE_CONTROL, CONTENT_TYPE] {
            assert!(hit.headers.contains_key(&name), "{}: a hit has no {name}", side.name);
            assert_eq!(hit.headers.get(&name), stored.headers.get(&name), "{}: {name}", side.name);
        }
    } else {
        assert_eq!(ran, u64::from(asked), "{}: every request runs the handler", side.name);
    }
    a_second
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
