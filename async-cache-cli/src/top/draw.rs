//! Draws what `top` shows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row, Table};

use super::view::View;

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    let bad = Style::new().fg(Color::Red);
    let (nodes, missing) = (view.rows.len(), view.missing);
    let mut first = vec![format!("{}  ", view.namespace).bold(), format!("{nodes} node(s)").into()];
    if missing > 0 {
        first.push(format!(", {missing} did not answer").red());
    }
    let second = match &view.failed {
        Some(why) => Line::styled(why.as_str(), bad),
        None => Line::from(format!(
            "per second: {} lookups, {} loads, {} changes",
            rate(view.lookups()),
            rate(view.loads()),
            rate(view.changes())
        )),
    };
    frame.render_widget(ratatui::text::Text::from(vec![Line::from(first), second]), head);
    frame.render_widget(table(view), body);
    frame.render_widget(Line::from("q ends").dim(), foot);
}

fn table(view: &View) -> Table<'_> {
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let heads = ["node", "process", "state"].map(Cell::from).into_iter();
    let numbers = ["hit rate", "lookups/s", "loads/s", "entries", "in flight", "pending"];
    let heads = heads.chain(numbers.map(|head| right(head.to_owned())));
    let rows = view.rows.iter().map(|row| {
        let state = match row.health {
            "ok" => Style::new().fg(Color::Green),
            _ => Style::new().fg(Color::Red),
        };
        let texts = [Cell::from(&*row.id), Cell::from(&*row.process), Cell::from(row.health).style(state)];
        let numbers = [
            format!("{:.1} %", row.hit_rate * 100.0),
            rate(row.lookups),
            rate(row.loads),
            row.entries.to_string(),
            row.in_flight.to_string(),
            row.pending.to_string(),
        ];
        Row::new(texts.into_iter().chain(numbers.map(right)))
    });
    let widths = [
        Constraint::Length(16),
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(7),
    ];
    Table::new(rows, widths).header(Row::new(heads).bold()).block(Block::bordered())
}

/// A rate: as many digits as are of use.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate >= 10.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use tokio::time::Instant;

    use super::*;
    use crate::fleet::{Answers, Node};

    fn screen(view: &View, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 8)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        terminal.backend().to_string()
    }

    fn answers(hits: &str) -> Answers {
        let healthy =
            [("host", "web-1"), ("pid", "7"), ("l1_hits", hits), ("misses", "0"), ("entries", "42")];
        let cut_off =
            [("host", "web-2"), ("pid", "8"), ("l1_suspended", "1"), ("pending_invalidations", "3")];
        let nodes =
            vec![Node::for_test("00000000000000aa", &healthy), Node::for_test("00000000000000bb", &cut_off)];
        Answers { nodes, missing: 1 }
    }

    #[test]
    fn each_node_has_a_line_with_its_state_and_rates() {
        let (mut view, start) = (View::new("users"), Instant::now());
        view.take(&answers("1000"), 0, start);
        view.take(&answers("3000"), 50, start + Duration::from_secs(2));
        let screen = screen(&view, 110);
        let line = |word: &str| {
            screen.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}:\n{screen}"))
        };
        assert!(line("users").contains("2 node(s), 1 did not answer"), "{screen}");
        assert!(line("per second").contains("1000 lookups, 0.0 loads, 25 changes"), "{screen}");
        for part in ["00000000000000aa", "ok", "100.0 %", "1000", "42"] {
            assert!(line("web-1/7").contains(part), "{part}:\n{screen}");
        }
        for part in ["00000000000000bb", "L1 suspended", "3"] {
            assert!(line("web-2/8").contains(part), "{part}:\n{screen}");
        }
        assert!(line("lookups/s").contains("in flight"), "{screen}");
    }

    #[test]
    fn a_failed_round_says_why_and_keeps_the_nodes() {
        let mut view = View::new("users");
        view.take(&answers("1"), 0, Instant::now());
        view.fail("Redis is away".to_owned());
        let screen = screen(&view, 110);
        assert!(screen.contains("Redis is away") && screen.contains("web-1/7"), "{screen}");
    }

    #[test]
    fn a_narrow_terminal_is_no_fault() {
        let mut view = View::new("users");
        view.take(&answers("1"), 0, Instant::now());
        for width in [1, 10, 40] {
            screen(&view, width);
        }
    }
}
