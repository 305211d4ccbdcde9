//! Tables and times, as people read them on a terminal.

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp as Moment;
use model::Timestamp;

use crate::output::escape;

/// A table without lines; it fits the terminal's width, or is as wide as it likes where there is none.
pub fn render(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell, "")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// `2026-11-21T09:12:13.123Z`.
pub fn time(at: Timestamp) -> String {
    match Moment::from_millisecond(at.0) {
        Ok(moment) => format!("{moment:.3}"),
        Err(_) => format!("{} ms", at.0),
    }
}

/// Microseconds with a unit that keeps two or three digits: `870 µs`, `1.2 ms`, `340 ms`, `12.5 s`.
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        100_000..10_000_000 => format!("{} ms", us / 1_000),
        10_000_000.. => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(
            time(Timestamp(1_795_252_333_123)),
            "2026-11-21T09:12:13.123Z"
        );
        assert_eq!(
            time(Timestamp(1_795_252_333_000)),
            "2026-11-21T09:12:13.000Z"
        );
        let shown = [870, 1_234, 99_999, 340_000, 12_543_000].map(micros);
        assert_eq!(shown, ["870 µs", "1.2 ms", "99.9 ms", "340 ms", "12.5 s"]);
    }

    #[test]
    fn a_table_lines_up() {
        let rows = vec![
            vec!["hello".to_owned(), "v1".to_owned()],
            vec!["a".to_owned(), "v10".to_owned()],
        ];
        assert_eq!(
            render(&["NAME", "VERSION"], rows),
            "NAME   VERSION\nhello  v1\na      v10"
        );
    }
}
