//! What the dashboard does: every button, and the figures that its text promises.

use fantoccini::Locator;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::browser::{Key, Page};
use crate::demo::{Demo, QUIET};

/// The card of an instance, by its number.
fn card(number: u32) -> String {
    format!("[...document.querySelectorAll('.card')][{}]", number - 1)
}

/// The rate that the legend of an instance shows for an answer, as text: `12/s`.
fn legend(number: u32, answer: &str) -> String {
    format!("{}.querySelector('.swatch.{answer}').closest('div').querySelector('dd').innerText", card(number))
}

fn chip_is(number: u32, text: &str) -> String {
    format!("{}.querySelector('.chip').innerText === {}", card(number), json!(text))
}

async fn open(args: &[&str]) -> Page {
    let page = Page::open(Demo::serve(args)).await;
    page.banner("All is well.").await;
    page
}

/// A browser writes what went wrong on a page to its console.
async fn close_without_an_error(page: Page) {
    assert_eq!(page.close().await, [""; 0]);
}

#[tokio::test]
async fn the_figures_are_live_and_add_up() {
    let page = open(&["--instances", "3"]).await;
    page.until("requests are answered", "parseFloat($('requests').innerText) > 0").await;
    page.until("the lag is measured", "/^[0-9.]+ (µs|ms|s)$/.test($('lag').innerText)").await;
    page.until("answers without the database", "parseFloat($('saved').innerText) > 50").await;
    assert_eq!(page.text("stale").await, "0");
    // The tile is the sum of the cards, up to their rounding.
    page.until("the sum of the cards", "Math.abs(parseFloat($('requests').innerText) - [...document.querySelectorAll('.big b')].reduce((sum, e) => sum + parseFloat(e.innerText), 0)) <= 2").await;
    for number in 1..=3 {
        page.until("it serves", &chip_is(number, "Serves from memory")).await;
        let drawn = format!("{}.querySelector('.fill.l1').getAttribute('d').length > 20", card(number));
        page.until("a sparkline grows", &drawn).await;
        let copies = format!(
            "/^[1-9][0-9]* copies held$/.test({}.querySelector('footer .note').innerText)",
            card(number)
        );
        page.until("it holds copies", &copies).await;
    }
    close_without_an_error(page).await;
}

#[tokio::test]
async fn a_thousand_requests_for_a_cold_product_make_one_query() {
    let page = open(&["--instances", "3"]).await;
    page.click("#rush").await;
    page.until(
        "the rush is over",
        "$('rush-result').innerText !== '' && $('rush-result').dataset.state === 'done'",
    )
    .await;
    let said = page.text("rush-result").await;
    assert!(said.starts_with("1,000 requests on 3 instances for product "), "{said}");
    assert!(
        said.contains(": 1 query. The slowest request took ")
            && said.ends_with(" of which the query took 100."),
        "{said}"
    );
    page.until("the log has it", "$('log').innerText.includes('1000 requests at once')").await;
    close_without_an_error(page).await;
}

#[tokio::test]
async fn a_change_is_shown_by_every_instance_and_highlighted() {
    let page = open(&["--instances", "3"]).await;
    page.click("#read").await;
    page.until(
        "every instance holds a copy",
        "document.querySelectorAll('.copy .chip[data-state=good]').length === 3",
    )
    .await;
    let before = page.demo.get(&format!("/products/{QUIET}")).json();

    page.click("#change").await;
    page.until(
        "the change is over",
        "$('change-result').dataset.state === 'done' && $('change-result').innerText.includes('changed')",
    )
    .await;
    let said = page.text("change-result").await;
    let after = page.demo.get(&format!("/products/{QUIET}")).json();
    let price = |row: &Value| format!("€{:.2}", row["price_cents"].as_f64().expect("a price") / 100.0);
    let begins = format!(
        "Instance 1 changed the price from {} to {}. Instance 2 showed it ",
        price(&before),
        price(&after)
    );
    assert!(said.starts_with(&begins), "{said}, not {begins}");
    assert!(
        said.contains("Instance 3 showed it ") && said.matches("its copy was gone ").count() == 2,
        "{said}"
    );
    assert_eq!(after["version"], json!(2));

    let highlighted = "[...document.querySelectorAll('.copy')].slice(1).every((e) => e.classList.contains('changed') && getComputedStyle(e.querySelector('[data-field=price]')).backgroundColor === 'rgb(255, 229, 143)')";
    page.until("the price is highlighted", highlighted).await;
    for number in 2..=3 {
        let copy = format!("[...document.querySelectorAll('.copy')][{}].innerText", number - 1);
        page.until(
            "the card says when",
            &format!("/Showed it (at once|after [0-9.]+ (µs|ms|s))/.test({copy})"),
        )
        .await;
    }
    let both = format!(
        "[...document.querySelectorAll('.copy')].slice(1).every((e) => e.innerText.includes({}))",
        json!(format!("{} → {}", price(&before), price(&after)))
    );
    page.until("the old price and the new one", &both).await;
    let truth = format!(
        "$('row').innerText.includes({})",
        json!(format!("{}, 1,000,000 in stock, version 2", price(&after)))
    );
    page.until("the row has the price", &truth).await;
    let shown = format!(
        "[...document.querySelectorAll('.copy')].slice(1).every((e) => e.innerText.includes({}))",
        json!(price(&after))
    );
    page.click("#read").await;
    page.until("the copies have the price", &shown).await;
    page.until("the highlight ends", "document.querySelector('.copy.changed') === null").await;
    close_without_an_error(page).await;
}

#[tokio::test]
async fn an_instance_whose_subscriber_is_cut_answers_from_the_shared_tier() {
    let page = open(&["--instances", "3"]).await;
    page.click(".card:nth-child(2) footer button").await;
    page.banner("Instance 2 hears no invalidations: the subscriber is cut. Its own memory does not answer")
        .await;
    page.until("the card says so", &chip_is(2, "Subscriber cut")).await;
    let (l1, l2) = (legend(2, "l1"), legend(2, "l2"));
    page.until("only the shared tier answers", &format!("{l1} === '0/s' && parseFloat({l2}) > 0")).await;
    assert_eq!(page.value(&chip_is(1, "Serves from memory")).await, json!(true));
    page.click(".card:nth-child(2) footer button").await;
    page.banner("All is well.").await;
    page.until("its memory answers again", &format!("parseFloat({}) > 0", legend(2, "l1"))).await;
    page.until("no read was too old", "$('stale').innerText === '0'").await;
    close_without_an_error(page).await;
}

#[tokio::test]
async fn a_stopped_tier_and_a_broken_database_are_said_and_mended() {
    let page = open(&["--instances", "2"]).await;
    page.click("#tier").await;
    page.banner("The shared tier is stopped. Each instance answers from its own memory").await;
    page.until(
        "both are alone",
        &format!("{} && {}", chip_is(1, "No shared tier"), chip_is(2, "No shared tier")),
    )
    .await;
    page.until("changes wait", "$('banner').innerText.includes('not reached the shared tier yet')").await;
    // Nobody can be told of a change: a copy of the old price answers until it expires.
    page.click("#change").await;
    page.until(
        "the change is over",
        "$('change-result').innerText.includes('The invalidation is being retried: the product was written')",
    )
    .await;
    let shown = "/Instance 2 showed it after [0-9.]+ m?s/.test($('change-result').innerText)";
    assert_eq!(page.value(shown).await, json!(true), "{}", page.text("change-result").await);
    page.click("#tier").await;
    page.banner("All is well.").await;

    page.click("input[value=failing]").await;
    page.banner("The database fails.").await;
    page.until("stale values answer", &format!("parseFloat({}) > 0", legend(1, "stale"))).await;
    page.click("input[value=slow]").await;
    page.banner("The database is slow: a query takes 1 s longer.").await;
    page.until(
        "queries are slow",
        &format!("/ s$/.test({}.querySelectorAll('.small b')[2].innerText)", card(1)),
    )
    .await;
    page.click("input[value=normal]").await;
    page.banner("All is well.").await;
    page.until(
        "nothing is stale",
        &format!("{0} === '0/s' && {1} === '0/s'", legend(1, "stale"), legend(2, "stale")),
    )
    .await;
    assert_eq!(page.text("stale").await, "0");
    close_without_an_error(page).await;
}

#[tokio::test]
async fn a_product_is_found_by_its_tag_or_its_number() {
    let page = open(&["--instances", "2"]).await;
    let tag = page.client.find(Locator::Id("tag")).await.expect("the tags");
    tag.select_by_value("lamp").await.expect("a tag");
    page.until("the lamps", "document.querySelectorAll('#found button').length === 12").await;
    page.click("#found li:nth-child(2) button").await;
    page.until(
        "the second lamp",
        "$('row').innerText.includes('lamp no. 11,') && $('product').value === '11'",
    )
    .await;
    let number = page.client.find(Locator::Id("product")).await.expect("the number");
    number.clear().await.expect("it is cleared");
    number.send_keys("7").await.expect("it takes keys");
    page.press(Key::Enter).await;
    page.until("product 7", "$('row').innerText.includes('no. 7,')").await;
    close_without_an_error(page).await;
}

#[tokio::test]
async fn the_keyboard_reaches_everything_and_shows_where_it_is() {
    let page = open(&["--instances", "2"]).await;
    page.value("$('rush').focus()").await;
    page.press(Key::Enter).await;
    page.until("a key sends the requests", "$('rush-result').innerText.includes('1 query')").await;
    page.value("document.querySelector('input[value=normal]').focus()").await;
    page.press(Key::Right).await;
    page.banner("The database is slow").await;
    page.value("document.querySelector('input[value=slow]').focus()").await;
    page.press(Key::Left).await;
    page.banner("All is well.").await;

    page.client.refresh().await.expect("the page loads again");
    page.until("the page is live", "$('link').textContent === 'Live'").await;
    let mut reached = Vec::new();
    for _ in 0..24 {
        page.press(Key::Tab).await;
        let focus = "(() => { const e = document.activeElement; const s = getComputedStyle(e.matches('input[type=radio]') ? e.nextElementSibling : e); return e === document.body ? ['', true] : [e.id || e.className || e.value || e.innerText, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; })()";
        let focus = page.value(focus).await;
        let name = focus[0].as_str().expect("a name").to_owned();
        if name.is_empty() || reached.contains(&name) && name != "Cut its subscriber" {
            break;
        }
        assert_eq!(focus[1], json!(true), "the focus on {name} is visible");
        reached.push(name);
    }
    for name in
        ["skip", "Cut its subscriber", "product", "tag", "writer", "change", "read", "rush", "tier", "normal"]
    {
        assert!(reached.iter().any(|reached| reached == name), "{name} is not among {reached:?}");
    }
    close_without_an_error(page).await;
}

#[tokio::test]
async fn instances_in_processes_on_a_redis_of_their_own() {
    let page = open(&["--processes", "3", "--redis", "spawn"]).await;
    assert!(page.text("mode").await.starts_with("3 instances, each a process of its own, sharing Redis"));
    page.click("#tier").await;
    page.banner("Redis is stopped: its process hangs.").await;
    page.until("all are alone", "document.querySelectorAll('.card .chip[data-state=warn]').length === 3")
        .await;
    page.click("#tier").await;
    page.banner("All is well.").await;
    page.click(".card:nth-child(3) footer button").await;
    page.banner("Instance 3 hears no invalidations").await;
    page.click(".card:nth-child(3) footer button").await;
    page.banner("All is well.").await;

    let instances = page.demo.instances();
    assert_eq!(instances.len(), 3);
    kill(instances[1], Signal::SIGKILL).expect("it runs");
    page.banner("Instance 2 has ended. The others serve on.").await;
    page.until("the card says so", &chip_is(2, "Ended")).await;
    page.click("#rush").await;
    page.until("two are left", "$('rush-result').innerText.startsWith('1,000 requests on 2 instances')")
        .await;
    page.until("no read was too old", "$('stale').innerText === '0'").await;
    close_without_an_error(page).await;
}

#[tokio::test]
async fn a_redis_of_others_has_no_button_and_a_lost_server_is_said() {
    let redis = integration_tests::RedisServer::start();
    let page = open(&["--instances", "2", "--redis", &redis.url()]).await;
    assert_eq!(page.value("$('tier').hidden").await, json!(true));
    assert!(page.text("tier-about").await.contains("--redis spawn"));
    redis.kill();
    page.banner("Instances 1 and 2 cannot reach Redis.").await;
    kill(page.demo.pid(), Signal::SIGTERM).expect("it runs");
    page.banner("This page has lost the server").await;
    page.until("the page says so", "$('link').innerText === 'Not connected'").await;
}
