//! Tables for people: columns as wide as their widest cell.

use unicode_width::UnicodeWidthStr;

/// Lines of a table with this heading. A line break in a cell becomes a space: a row stays a line.
pub fn lines<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let heading = heading.map(str::to_owned);
    let rows = rows.into_iter().map(|row| row.map(|cell| cell.split_whitespace().collect::<Vec<_>>().join(" ")));
    let rows: Vec<[String; N]> = std::iter::once(heading).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    rows.iter()
        .map(|row| {
            let cells =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_under_wide_letters() {
        let rows = [["é", "two\nlines"], ["患者", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(["A", "B"], rows), ["A     B", "é     two lines", "患者"]);
    }
}
