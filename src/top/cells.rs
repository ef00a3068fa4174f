//! How wide the columns of the list are, and what is left out where they are too narrow.

use super::list::Column;
use super::model::Model;

/// The columns with their widths: as wide as what is in them, and less where that is too much.
pub(super) fn columns(model: &Model, width: usize) -> Vec<(Column, usize)> {
    /// Narrower than that no column gets.
    const LEAST: usize = 4;
    let mut columns: Vec<(Column, usize)> = Column::ALL
        .into_iter()
        .map(|column| {
            // The sign of the order stands beside the title.
            let title = column.title().len() + usize::from(model.sorted().0 == column) * 2;
            let cells = model.list.rows.iter().take(500);
            let longest = cells.map(|row| column.of(row, model.now).chars().count()).max();
            (column, longest.unwrap_or(0).max(title))
        })
        .collect();
    loop {
        let all: usize = columns.iter().map(|(_, width)| width + 1).sum::<usize>().saturating_sub(1);
        let widest = columns.iter_mut().max_by_key(|(_, width)| *width);
        match widest {
            Some((_, widest)) if all > width && *widest > LEAST => *widest -= 1,
            _ => return columns,
        }
    }
}

/// A text in so many characters. Of an address the end says more.
pub(super) fn fitted(column: Column, text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return match column {
            Column::Age | Column::Packets => format!("{text:>width$}"),
            _ => format!("{text:width$}"),
        };
    }
    let kept = width.saturating_sub(1);
    match column {
        Column::Client | Column::Original | Column::Guest => {
            std::iter::once('…').chain(text.chars().skip(count - kept)).collect()
        }
        _ => text.chars().take(kept).chain(std::iter::once('…')).collect(),
    }
}
