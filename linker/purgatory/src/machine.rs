//! The interface between the stage and the machine.

/// The operations of a machine that the stage uses. The tests implement it on a host.
pub trait Machine {
    /// Reads the time stamp counter.
    fn ticks() -> u64;

    /// The virtual address of physical address `addr`. Valid once the stage's page tables map it.
    fn at(addr: u64) -> *mut u8;

    /// The physical address of `place`, which is in the stage's area.
    fn address_of(place: *const u8) -> u64;

    /// The guard page below the stack. The stage's page tables do not map it.
    fn guard() -> *const u8;

    /// Whether the processor uses five levels of page tables.
    fn has_five_levels() -> bool;

    /// Loads the page tables at physical address `root`.
    ///
    /// # Safety
    /// They must be an identity map of all memory that is used from now on.
    unsafe fn use_page_tables(root: u64);

    /// Injects `fault`, a [`FaultInjection`](crate::parameters::FaultInjection).
    fn inject_fault(fault: u64);

    /// Sends `byte` to the serial console at I/O port `port`. The wait is bounded by the time for one byte at the
    /// lowest speed.
    fn print(port: u16, byte: u8);
}
