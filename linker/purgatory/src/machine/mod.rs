//! What the stage needs of a machine.

#[cfg(target_os = "none")]
mod bare;

/// What the stage needs of a machine.
pub trait Machine {
    /// The time stamp counter.
    fn ticks() -> u64;

    /// Where the memory at this physical address can be touched, once it is mapped.
    fn at(addr: u64) -> *mut u8;

    /// The physical address of what the stage sees there.
    fn address_of(place: *const u8) -> u64;

    /// The page below the stack, which is not to be mapped.
    fn guard() -> *const u8;

    /// Whether page tables have five levels.
    fn has_five_levels() -> bool;

    /// Makes the page tables at physical address `root` the processor's.
    ///
    /// # Safety
    /// They must map all that is used from now on, at its own address.
    unsafe fn use_page_tables(root: u64);

    /// Goes wrong in the way of a [`Drill`](crate::parameters::Drill).
    fn go_wrong(drill: u64);

    /// Sends `byte` to the serial console at `port`; doesn't wait longer than for as many looks at its state as that
    /// takes at the lowest speed.
    fn print(port: u16, byte: u8);
}
