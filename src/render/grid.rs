//! Grids of equal tiles, and the factors by which they are enlarged.

/// Factor by which a picture is enlarged or reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zoom {
    /// Each pixel becomes a square with this side. A whole factor, so that every value of the data stays a square.
    In(u32),
    /// `from` pixels become `to`, fewer, each the mean of the pixels it covers.
    Out { from: u32, to: u32 },
}

impl Zoom {
    /// The largest zoom for which the longer of two sides is at most `limit` pixels.
    pub fn fitting(height: usize, width: usize, limit: u32) -> Zoom {
        let side = u32::try_from(height.max(width)).unwrap_or(u32::MAX).max(1);
        let limit = limit.max(1);
        if side <= limit { Zoom::In(limit / side) } else { Zoom::Out { from: side, to: limit } }
    }

    /// The length of a zoomed side.
    pub fn apply(self, side: usize) -> u32 {
        let side = u32::try_from(side).unwrap_or(u32::MAX);
        match self {
            Zoom::In(factor) => side.saturating_mul(factor),
            Zoom::Out { from, to } => {
                let length = (u64::from(side) * u64::from(to)).div_ceil(u64::from(from.max(1)));
                u32::try_from(length).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Rows and columns of equal tiles with gaps between them, filled row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub columns: u32,
    pub rows: u32,
    /// Size of a tile, in pixels.
    pub tile_width: u32,
    pub tile_height: u32,
    pub gap: u32,
    /// Zoom of a tile's data.
    pub zoom: Zoom,
}

impl Grid {
    /// Largest tiles, their longer side at most `tile_limit`, for which `count` tiles of `height` x `width` values
    /// fit a box of `box_width` x `box_height` pixels. Somewhat smaller tiles are preferred if they fill all rows.
    /// Data that is larger than a tile is reduced.
    pub fn fitting(
        count: usize,
        (height, width): (usize, usize),
        (box_width, box_height): (u32, u32),
        tile_limit: u32,
        gap: u32,
    ) -> Grid {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let with = |zoom: Zoom| {
            let (tile_width, tile_height) = (zoom.apply(width).max(1), zoom.apply(height).max(1));
            let columns = (box_width.saturating_add(gap) / tile_width.saturating_add(gap)).clamp(1, count);
            Grid { columns, rows: count.div_ceil(columns), tile_width, tile_height, gap, zoom }
        };
        let fits = |grid: &Grid| grid.height() <= box_height;
        let most = tile_limit.min(box_width).max(1);
        let mut candidates = (1..=most).rev().map(|limit| with(Zoom::fitting(height, width, limit)));
        let Some(largest) = candidates.find(fits) else {
            return with(Zoom::fitting(height, width, 1));
        };
        let full = |grid: Grid| {
            // At least three quarters of the columns that fit, to avoid a tall, narrow grid.
            let columns = ((grid.columns * 3).div_ceil(4)..=grid.columns).rev().find(|columns| count % columns == 0)?;
            Some(Grid { columns, rows: count / columns, ..grid }).filter(fits)
        };
        let little_smaller = |grid: &Grid| u64::from(grid.tile_width) * 5 >= u64::from(largest.tile_width) * 3;
        let smaller = std::iter::once(largest).chain(candidates).take_while(little_smaller).find_map(full);
        smaller.unwrap_or(largest)
    }

    /// The upper left corner of tile number `index`, relative to the grid's.
    pub fn corner(&self, index: usize) -> (u32, u32) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let (row, column) = (index / self.columns.max(1), index % self.columns.max(1));
        let along = |n: u32, tile: u32| n.saturating_mul(tile.saturating_add(self.gap));
        (along(column, self.tile_width), along(row, self.tile_height))
    }

    pub fn width(&self) -> u32 {
        extent(self.columns, self.tile_width, self.gap)
    }

    pub fn height(&self) -> u32 {
        extent(self.rows, self.tile_height, self.gap)
    }
}

fn extent(count: u32, tile: u32, gap: u32) -> u32 {
    count.saturating_mul(tile.saturating_add(gap)).saturating_sub(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zoom_is_the_largest_that_fits() {
        assert_eq!(Zoom::fitting(28, 28, 96), Zoom::In(3));
        assert_eq!(Zoom::fitting(96, 96, 96), Zoom::In(1));
        assert_eq!(Zoom::fitting(97, 10, 96), Zoom::Out { from: 97, to: 96 });
        assert_eq!(Zoom::fitting(0, 0, 0), Zoom::In(1));
        assert_eq!(Zoom::In(3).apply(28), 84);
        assert_eq!(Zoom::Out { from: 97, to: 40 }.apply(10), 5);
    }

    #[test]
    fn tiles_fill_the_box_without_leaving_it() {
        let grid = Grid::fitting(32, (26, 26), (326, 340), 56, 2);
        assert_eq!((grid.columns, grid.rows, grid.zoom), (6, 6, Zoom::In(2)));
        assert_eq!((grid.width(), grid.height()), (322, 322));
        assert_eq!(grid.corner(0), (0, 0));
        assert_eq!(grid.corner(7), (54, 54));
        let grid = Grid::fitting(32, (13, 13), (326, 340), 56, 2);
        assert_eq!((grid.columns, grid.rows, grid.zoom), (8, 4, Zoom::In(3)), "smaller tiles in full rows");
        let grid = Grid::fitting(32, (222, 222), (326, 340), 112, 2);
        assert!(grid.width() <= 326 && grid.height() <= 340 && grid.tile_width >= 36, "{grid:?}");
        for (count, side) in [(1, 3), (5, 11), (64, 5), (64, 11), (64, 24), (10, 322), (3, 1000)] {
            let grid = Grid::fitting(count, (side, side), (322, 340), 84, 2);
            assert!(grid.width() <= 322 && grid.height() <= 340, "{count} of {side}: {grid:?}");
            assert!(grid.columns as usize * grid.rows as usize >= count);
            assert!((grid.rows as usize - 1) * (grid.columns as usize) < count);
        }
    }

    #[test]
    fn a_grid_of_nothing_is_one_empty_cell() {
        let grid = Grid::fitting(0, (0, 0), (0, 0), 0, 0);
        assert_eq!((grid.columns, grid.rows), (1, 1));
    }
}
