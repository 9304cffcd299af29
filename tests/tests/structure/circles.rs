//! Finds files that use each other in a circle.

use super::modules::{Modules, Use, Uses};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

/// A circle: each file uses the following one, and the last uses the first.
pub type Circle = Vec<usize>;

/// Circles that cover all that there are: without one use of each, no circle is left.
///
/// The shortest come first, and the use that is taken away from a circle is that with the fewest places.
pub fn circles(uses: &Uses) -> Vec<Circle> {
    let mut left: BTreeMap<(usize, usize), usize> =
        uses.iter().map(|(between, places)| (*between, places.len())).collect();
    let mut circles = Vec::new();
    while let Some(circle) = shortest(&left) {
        let weakest = edges(&circle).min_by_key(|edge| left.get(edge).copied());
        left.remove(&weakest.expect("a circle has uses"));
        circles.push(circle);
    }
    circles
}

/// The uses that make up a circle.
pub fn edges(circle: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    circle.iter().copied().zip(circle.iter().copied().cycle().skip(1))
}

fn shortest(uses: &BTreeMap<(usize, usize), usize>) -> Option<Circle> {
    let starts: BTreeSet<usize> = uses.keys().map(|(from, _)| *from).collect();
    starts.into_iter().filter_map(|start| back_to(uses, start)).min_by_key(Vec::len)
}

/// The shortest circle through `start`.
fn back_to(uses: &BTreeMap<(usize, usize), usize>, start: usize) -> Option<Circle> {
    let mut came_from = BTreeMap::new();
    let mut work = VecDeque::from([start]);
    while let Some(at) = work.pop_front() {
        for (_, next) in uses.range((at, 0)..=(at, usize::MAX)).map(|(between, _)| *between) {
            if next == start {
                let mut circle = vec![at];
                while circle[circle.len() - 1] != start {
                    circle.push(came_from[&circle[circle.len() - 1]]);
                }
                circle.reverse();
                return Some(circle);
            }
            came_from.entry(next).or_insert_with(|| {
                work.push_back(next);
                at
            });
        }
    }
    None
}

/// Spells out the circles of files in a crate, each use with its first place; empty if there are none.
pub fn describe(name: &str, modules: &Modules, top: &Path) -> String {
    let uses = modules.uses();
    let mut text = String::new();
    for circle in circles(&uses) {
        let _ = writeln!(text, "{name}: {} files use each other in a circle", circle.len());
        for between in edges(&circle) {
            spell_out(&mut text, modules, top, between, &uses[&between]);
        }
    }
    text
}

fn spell_out(
    text: &mut String,
    modules: &Modules,
    top: &Path,
    (from, to): (usize, usize),
    places: &BTreeSet<Use>,
) {
    let file = |index: usize| shortened(&modules.files[index], top).display();
    let Some(Use { line, path }) = places.first() else { return };
    let more = match places.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let _ = writeln!(text, "  {}:{line} uses {path} of {}{more}", file(from), file(to));
}

fn shortened<'p>(path: &'p Path, top: &Path) -> &'p Path {
    path.strip_prefix(top).unwrap_or(path)
}

/// Spells out the circles of the modules at the top of a crate, each with all that is below it.
///
/// `top` is the directory of the crate's root. The root itself is none of these modules.
pub fn describe_rooms(name: &str, modules: &Modules, top: &Path) -> String {
    let room_of = |file: usize| {
        let first = shortened(&modules.files[file], top).components().next();
        let first = Path::new(first.as_ref().map_or("".as_ref(), |first| first.as_os_str()));
        first.with_extension("").display().to_string()
    };
    let rooms: Vec<String> = (0..modules.files.len()).map(room_of).collect();
    let names: Vec<&String> = rooms.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let index = |file: usize| names.binary_search(&&rooms[file]).unwrap_or(0);
    let uses = modules.uses();
    let mut between_rooms = Uses::new();
    let mut first = BTreeMap::new();
    for ((from, to), places) in uses.iter().filter(|((from, to), _)| *from > 0 && *to > 0) {
        let between = (index(*from), index(*to));
        if between.0 != between.1 {
            first.entry(between).or_insert((*from, *to));
            between_rooms.entry(between).or_default().extend(places.iter().cloned());
        }
    }
    let mut text = String::new();
    for circle in circles(&between_rooms) {
        let members: Vec<&str> = circle.iter().map(|room| names[*room].as_str()).collect();
        let (count, members) = (circle.len(), members.join(", "));
        let _ = writeln!(text, "{name}: {count} modules use each other in a circle: {members}");
        for between in edges(&circle) {
            let files = first[&between];
            spell_out(&mut text, modules, top, files, &uses[&files]);
        }
    }
    text
}
