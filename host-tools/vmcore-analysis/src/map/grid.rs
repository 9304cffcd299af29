//! Memory as rows of cells. Each cell counts its frames of each class.

use super::classes::{ClassCounts, ClassRun};
use scanner_core::{Pfn, PfnRange};
use vmcore::frames::FrameRanges;

/// Rows of cells for the memory that exists. Adjacent rows without memory are one gap.
///
/// The number of frames in a cell is a power of two, and a row starts at a multiple of its size. So the addresses of
/// the rows are round.
#[derive(Clone, Debug)]
pub struct Grid {
    columns: usize,
    cell_frames: u64,
    /// The row numbers: the first frame divided by the frames of a row.
    rows: Vec<u64>,
    /// `columns` cells for each row.
    cells: Vec<ClassCounts>,
    counts: ClassCounts,
}

/// A line of a picture.
#[derive(Clone, Copy, Debug)]
pub enum Line<'g> {
    /// A row of cells.
    Row(Row<'g>),
    /// Rows without memory, not drawn.
    Gap(PfnRange),
}

/// A row of cells.
#[derive(Clone, Copy, Debug)]
pub struct Row<'g> {
    /// The frames of the row.
    pub frames: PfnRange,
    /// The cells, by ascending address.
    pub cells: &'g [ClassCounts],
}

impl Grid {
    /// Creates a grid for the frames `exists`, of at most `max_lines` rows and gaps, with `columns` cells a row. The
    /// cells have the smallest size that fits. A `max_lines` of less than three counts as three.
    ///
    /// The memory use depends on `columns` and `max_lines` only.
    pub fn new(exists: &FrameRanges, columns: usize, max_lines: usize) -> Self {
        let columns = columns.max(1);
        let mut cell_frames = 1_u64;
        let rows = loop {
            let row_frames = cell_frames.saturating_mul(columns as u64);
            match rows_of(exists, row_frames, max_lines.max(3)) {
                // A row of larger cells would have more frames than a machine can have.
                None if cell_frames < 1 << 62 => cell_frames <<= 1,
                rows => break rows.unwrap_or_default(),
            }
        };
        let cells = vec![ClassCounts::default(); rows.len() * columns];
        Self { columns, cell_frames, rows, cells, counts: ClassCounts::default() }
    }

    /// Adds the frames of `run` to the cells.
    pub fn add(&mut self, run: ClassRun) {
        self.counts.add(run.class, run.frames.len());
        let first = self.rows.partition_point(|row| self.row_range(*row).end <= run.frames.start);
        for index in first..self.rows.len() {
            let row = self.row_range(self.rows[index]);
            let part = run.frames.intersection(row);
            if part.is_empty() {
                break;
            }
            let mut pfn = part.start;
            while pfn < part.end {
                let column = pfn.frames_since(row.start) / self.cell_frames;
                let end =
                    row.start.saturating_add((column + 1).saturating_mul(self.cell_frames)).min(part.end);
                self.cells[index * self.columns + column as usize].add(run.class, end.frames_since(pfn));
                pfn = end;
            }
        }
    }

    /// The number of cells in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The number of frames in a cell.
    pub fn cell_frames(&self) -> u64 {
        self.cell_frames
    }

    /// The number of frames in a row.
    pub fn row_frames(&self) -> u64 {
        self.cell_frames.saturating_mul(self.columns as u64)
    }

    /// The counts of all added runs, gaps included.
    pub fn counts(&self) -> &ClassCounts {
        &self.counts
    }

    /// The rows and the gaps between them, by ascending address.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut expected = Pfn::new(0);
        self.rows.iter().zip(self.cells.chunks(self.columns)).flat_map(move |(row, cells)| {
            let frames = self.row_range(*row);
            let gap = PfnRange::new(expected, frames.start);
            expected = frames.end;
            let gap = (!gap.is_empty()).then_some(Line::Gap(gap));
            gap.into_iter().chain([Line::Row(Row { frames, cells })])
        })
    }

    fn row_range(&self, row: u64) -> PfnRange {
        PfnRange::from_start(Pfn::new(row.saturating_mul(self.row_frames())), self.row_frames())
    }
}

/// The numbers of the rows that have memory; `None` if these rows and their gaps are more than `max_lines`.
fn rows_of(exists: &FrameRanges, row_frames: u64, max_lines: usize) -> Option<Vec<u64>> {
    let mut rows: Vec<u64> = Vec::new();
    let mut gaps = 0;
    for range in exists.as_slice() {
        let first = range.start.as_u64() / row_frames;
        let last = range.end.as_u64().saturating_sub(1) / row_frames;
        let next = rows.last().map_or(0, |row| row + 1);
        gaps += usize::from(first > next);
        let new = first.max(next)..=last;
        if new.is_empty() {
            continue;
        }
        if last - new.start() >= max_lines as u64 {
            return None;
        }
        rows.extend(new);
        if rows.len() + gaps > max_lines {
            return None;
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::super::classes::FrameClass;
    use super::*;
    use proptest::prelude::*;

    fn ranges(ranges: &[(u64, u64)]) -> FrameRanges {
        FrameRanges::from_ranges(
            ranges.iter().map(|(start, end)| PfnRange::new(Pfn::new(*start), Pfn::new(*end))),
        )
    }

    #[test]
    fn rows_start_at_multiples_and_gaps_have_no_rows() {
        let grid = Grid::new(&ranges(&[(0, 100), (4000, 4096)]), 16, 10);
        assert_eq!((grid.cell_frames(), grid.row_frames()), (2, 32));
        let range = |start, end| PfnRange::new(Pfn::new(start), Pfn::new(end));
        let (rows, gaps): (Vec<_>, Vec<_>) = grid.lines().partition(|line| matches!(line, Line::Row(_)));
        let starts: Vec<PfnRange> = rows
            .iter()
            .chain(&gaps)
            .map(|line| match line {
                Line::Row(Row { frames, .. }) | Line::Gap(frames) => *frames,
            })
            .collect();
        let expected = [(0, 32), (32, 64), (64, 96), (96, 128), (4000, 4032), (4032, 4064), (4064, 4096)];
        assert_eq!(starts[..7], expected.map(|(start, end)| range(start, end)));
        assert_eq!(starts[7..], [range(128, 4000)]);
    }

    #[test]
    fn memory_use_is_bounded_for_any_size() {
        for frames in [0, 1, 1 << 40, u64::MAX] {
            let mut grid = Grid::new(&ranges(&[(0, frames)]), 128, 48);
            assert!(grid.cells.len() <= 48 * 128);
            grid.add(ClassRun {
                frames: PfnRange::new(Pfn::new(0), Pfn::new(frames)),
                class: FrameClass::Free,
            });
            assert_eq!(grid.counts().total(), frames);
        }
        let scattered: Vec<(u64, u64)> = (0..10_000).map(|i| (i << 26, (i << 26) + 1)).collect();
        assert!(Grid::new(&ranges(&scattered), 128, 48).rows.len() <= 48);
    }

    proptest! {
        #[test]
        fn cells_add_up_to_the_frames(
            lengths in prop::collection::vec((1_u64..5000, 0_usize..3), 0..60),
            columns in 1_usize..70,
            max_lines in 3_usize..40,
        ) {
            let classes = [FrameClass::Hole, FrameClass::Kept, FrameClass::Free];
            let mut end = 0;
            let runs: Vec<ClassRun> = lengths.into_iter().map(|(len, class)| {
                let frames = PfnRange::from_start(Pfn::new(end), len);
                end += len;
                ClassRun { frames, class: classes[class] }
            }).collect();
            let exists = runs.iter().filter(|run| run.class != FrameClass::Hole).map(|run| run.frames);
            let mut grid = Grid::new(&FrameRanges::from_ranges(exists), columns, max_lines);
            for run in &runs {
                grid.add(*run);
            }
            prop_assert!(grid.lines().count() <= max_lines);
            prop_assert_eq!(grid.counts().total(), end);
            for class in [FrameClass::Kept, FrameClass::Free] {
                let in_cells: u64 = grid.cells.iter().map(|cell| cell.get(class)).sum();
                prop_assert_eq!(in_cells, grid.counts().get(class));
            }
            prop_assert!(grid.cells.iter().all(|cell| cell.total() <= grid.cell_frames()));
        }
    }
}
