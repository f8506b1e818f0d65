//! The verb `top`: the nodes of a namespace at work, in the terminal.

mod draw;
mod view;

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::json;
use tokio::time::Instant;

use crate::args::{Shared, Top};
use crate::failure::{Failure, Outcome, chain};
use crate::fleet::Fleet;
use crate::{output, stats};
use view::View;

/// How often keys are asked for.
const GLANCE: Duration = Duration::from_millis(100);

/// Shows the nodes until the user ends it, or as often as asked for.
pub(crate) async fn run(shared: &Shared, how: &Top) -> Result<Outcome, Failure> {
    if !shared.json && !std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "`top` draws on a terminal, and this is none: add --json, or use `stats`",
        ));
    }
    let mut fleet = Fleet::open(shared, "top").await?;
    if shared.json {
        return lines(&mut fleet, how).await;
    }
    let mut terminal = ratatui::init();
    let shown = screens(&mut terminal, &mut fleet, how).await;
    ratatui::restore();
    shown
}

/// One JSON object for each round.
async fn lines(fleet: &mut Fleet, how: &Top) -> Result<Outcome, Failure> {
    let mut view = View::new(fleet.namespace.name());
    let mut left = how.count.unwrap_or(u64::MAX);
    loop {
        let begun = Instant::now();
        let answers = fleet.ask_once(b"stats").await?;
        let mut line = stats::as_json(fleet.namespace.name(), &answers);
        view.take(&answers, fleet.changes, begun);
        line["time"] = humantime::format_rfc3339_millis(SystemTime::now()).to_string().into();
        line["per_s"] =
            json!({ "lookups": view.lookups(), "loads": view.loads(), "changes": view.changes() });
        output::json_line(&line)?;
        left -= 1;
        if left == 0 {
            return Ok(Outcome::Good);
        }
        fleet.listen_until(begun + how.interval).await;
    }
}

/// One screen for each round, until a key ends it.
async fn screens(terminal: &mut DefaultTerminal, fleet: &mut Fleet, how: &Top) -> Result<Outcome, Failure> {
    let mut view = View::new(fleet.namespace.name());
    let mut left = how.count.unwrap_or(u64::MAX);
    while left > 0 {
        left -= 1;
        let begun = Instant::now();
        match fleet.ask_once(b"stats").await {
            Ok(answers) => view.take(&answers, fleet.changes, begun),
            Err(error) => view.fail(chain(&error)),
        }
        terminal.draw(|frame| draw::draw(frame, &view))?;
        let end = begun + how.interval;
        while Instant::now() < end {
            fleet.listen_until(end.min(Instant::now() + GLANCE)).await;
            match key()? {
                Key::End => return Ok(Outcome::Good),
                Key::Redraw => _ = terminal.draw(|frame| draw::draw(frame, &view))?,
                Key::None => {}
            }
        }
    }
    Ok(Outcome::Good)
}

/// What the user wants.
enum Key {
    End,
    Redraw,
    None,
}

/// The keys since the last call. Does not wait.
fn key() -> std::io::Result<Key> {
    let mut found = Key::None;
    while event::poll(Duration::ZERO)? {
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let interrupt =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(Key::End);
                }
            }
            Event::Resize(..) => found = Key::Redraw,
            _ => {}
        }
    }
    Ok(found)
}
