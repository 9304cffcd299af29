//! The call graph: recursion, the deepest chain of calls, and the code that an entry reaches.

use crate::code::Body;
use std::collections::BTreeSet;

/// Bytes that a call leaves on the stack: the return address.
const RETURN_ADDRESS: u64 = 8;

/// The deepest chain of calls from a function on.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Bytes of stack, with all return addresses.
    pub bytes: u64,
    /// The functions, by index, from the entry down.
    pub functions: Vec<usize>,
}

/// The deepest chain from each function on; or the functions of a cycle.
pub fn chains(bodies: &[Body]) -> Result<Vec<Chain>, Vec<usize>> {
    let mut chains: Vec<Option<Chain>> = bodies.iter().map(|_| None).collect();
    for start in 0..bodies.len() {
        // Depth first, without recursion of our own: a function is finished when all that it calls are.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((function, next)) = path.last_mut() {
            let function = *function;
            if chains[function].is_some() {
                path.pop();
            } else if let Some(callee) = bodies[function].callees.get(*next).copied() {
                *next += 1;
                if let Some(at) = path.iter().position(|(f, _)| *f == callee) {
                    return Err(path[at..].iter().map(|(f, _)| *f).collect());
                }
                path.push((callee, 0));
            } else {
                let deepest = bodies[function]
                    .callees
                    .iter()
                    .filter_map(|c| chains[*c].as_ref())
                    .max_by_key(|c| c.bytes);
                let own = bodies[function].frame + RETURN_ADDRESS;
                let below = deepest.map_or(0, |chain| chain.bytes);
                let mut functions = vec![function];
                functions.extend(deepest.into_iter().flat_map(|chain| &chain.functions));
                chains[function] = Some(Chain { bytes: own + below, functions });
                path.pop();
            }
        }
    }
    Ok(chains.into_iter().flatten().collect())
}

/// All functions that `entry` can reach, itself included.
pub fn reached(bodies: &[Body], entry: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([entry]);
    let mut work = vec![entry];
    while let Some(function) = work.pop() {
        work.extend(bodies[function].callees.iter().filter(|callee| reached.insert(**callee)));
    }
    reached
}
