//! How the dashboard looks: nothing runs off the page, and everybody can read it.

use std::io::Read;
use std::path::PathBuf;

use liblzma::read::XzDecoder;
use serde_json::json;

use crate::browser::{DESKTOP, PHONE, Page, Size};
use crate::demo::Demo;

const AXE: &[u8] = include_bytes!("../vendor/axe.min.js.xz");

/// Axe-core, which checks a page for what some people cannot read or use.
fn axe() -> String {
    let mut text = String::new();
    XzDecoder::new(AXE).read_to_string(&mut text).expect("it is packed text");
    text
}

/// The widths that are checked: phones, a tablet, desktops.
const WIDTHS: [u32; 6] = [320, PHONE.width, 768, 1024, DESKTOP.width, 1920];

async fn check(page: &Page, axe: &str, name: &str) {
    for scheme in ["light", "dark"] {
        page.scheme(scheme).await;
        for width in WIDTHS {
            page.size(Size { width, height: 900 }).await;
            let widths = page.value("[document.documentElement.scrollWidth, innerWidth]").await;
            assert_eq!(widths, json!([width, width]), "{name}, {scheme}: the page is wider than its window");
            let clipped = "[...document.querySelectorAll('main *')].filter((e) => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline' && !e.closest('svg') && !e.matches('.quiet, input')).map((e) => e.outerHTML.slice(0, 120))";
            assert_eq!(
                page.value(clipped).await,
                json!([]),
                "{name}, {scheme}, {width}: text runs out of its box"
            );
        }
        for (size, device) in [(DESKTOP, "1440"), (PHONE, "390")] {
            page.size(size).await;
            violations(page, axe, &format!("{name}, {scheme}, {device}")).await;
            keep(page, &format!("{name}-{device}-{scheme}")).await;
        }
    }
}

async fn violations(page: &Page, axe: &str, when: &str) {
    page.client.execute(axe, Vec::new()).await.expect("axe is loaded");
    let run = "const done = arguments[0];
        axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => done([
            violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html + ' ' + n.any.map((c) => c.message)).join('; ')}`),
            passes.length]), (error) => done([[String(error)], 0]));";
    let found = page.client.execute_async(run, Vec::new()).await.expect("axe runs");
    assert_eq!(found[0], json!([]), "{when}");
    assert!(found[1].as_u64() > Some(20), "{when}: axe has checked little: {found}");
}

/// Keeps a picture of the whole page in the directory that `SCREENSHOTS` names.
async fn keep(page: &Page, name: &str) {
    let Some(directory) = std::env::var_os("SCREENSHOTS").map(PathBuf::from) else { return };
    let picture = decode(&page.picture().await);
    std::fs::create_dir_all(&directory).expect("the directory of the pictures");
    std::fs::write(directory.join(format!("{name}.png")), picture).expect("a picture is written");
}

/// Base64, as the browser writes it.
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        (bits, held) = (bits << 6 | digit as u32, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[tokio::test]
async fn the_page_fits_and_is_accessible_whatever_is_wrong() {
    let outbox = if cfg!(feature = "outbox") { &["--outbox"][..] } else { &[] };
    let page = Page::open(Demo::serve(&[&["--instances", "3"], outbox].concat())).await;
    let axe = axe();
    page.banner("All is well.").await;
    page.click("#read").await;
    page.until("the product is read", "$('change-result').innerText.startsWith('Answered')").await;
    check(&page, &axe, "well").await;

    page.size(DESKTOP).await;
    page.click("#rush").await;
    page.until("the rush is over", "$('rush-result').innerText.includes('1 query')").await;
    page.click("#change").await;
    page.until("the change is over", "$('change-result').innerText.includes('changed the price')").await;
    if cfg!(feature = "outbox") {
        page.size(DESKTOP).await;
        page.click("#crash").await;
        page.until("the crash is over", "$('crash-result').innerText.includes('its commit')").await;
    }
    check(&page, &axe, "changed").await;

    for (path, body) in [
        ("/api/subscriber", json!({ "instance": 2, "cut": true })),
        ("/api/database", json!({ "health": "failing" })),
    ] {
        page.demo.post(path, &body).json();
    }
    page.banner("Instance 2 hears no invalidations").await;
    page.until("stale values answer", "$('cards').innerText.match(/Stale value\\s+[1-9]/) !== null").await;
    check(&page, &axe, "broken").await;

    page.demo.post("/api/tier", &json!({ "stopped": true })).json();
    page.banner("The shared tier is stopped.").await;
    page.until(
        "every instance is alone",
        "document.querySelectorAll('.card .chip[data-state=warn]').length === 3",
    )
    .await;
    check(&page, &axe, "stopped").await;
    assert_eq!(page.close().await, [""; 0], "nothing is written to the console");
}
