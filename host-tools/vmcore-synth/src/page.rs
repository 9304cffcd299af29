//! What a page of a simulated machine is: what it is used for, and what its `struct page` says.

/// Which edge case a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// See [`EDGE_CASES`], as for all others.
    MisalignedOrder,
    /// A hugetlb page at a frame that its order doesn't allow.
    MisalignedHugetlb,
    /// Order 63.
    Order63,
    /// Order 64.
    Order64,
    /// A head in slot 511.
    ChunkEnd,
    /// A free block of order 11.
    BuddyOrder,
    /// A free block with the slab flag.
    BuddySlab,
    /// Anonymous, with waiters.
    AnonWaiters,
    /// Offline, with waiters.
    OfflineWaiters,
    /// A compound page with a broken head.
    HwpoisonHead,
    /// A compound page with a broken tail.
    HwpoisonTail,
    /// All bits set.
    AllOnes,
    /// A flag that looks like hugetlb.
    FalseHugetlb,
    /// A page type with owner's bits.
    OwnerBits,
    /// Swap cache flag without swap backing.
    SwapCacheAlone,
    /// Slab with an odd pointer in `mapping`.
    SlabOddMapping,
    /// Private cache that is anonymous.
    AnonPrivate,
}

/// What a page is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A free block of the buddy allocator.
    Free,
    /// A free page in a CPU's own list: nothing says that it is free.
    PerCpuFree,
    /// Memory that the host has not yet given to a confidential guest.
    Unaccepted,
    /// Anonymous memory on an LRU list.
    Anon,
    /// Anonymous memory that was just taken off its LRU list.
    AnonIsolated,
    /// Anonymous memory that is merged with other pages of the same content.
    Ksm,
    /// Page cache of a file.
    Cache,
    /// Page cache with private data of the file system.
    CachePrivate,
    /// Page cache that is not yet on its LRU list.
    CacheBatch,
    /// Shared memory.
    Shmem,
    /// Shared memory on its way to swap, off the LRU lists.
    SwapCache,
    /// hugetlbfs.
    Hugetlb,
    Slab,
    PageTable,
    Kernel,
    Reserved,
    /// A kernel page that can be migrated: its mapping has a flag, but not the anonymous one.
    Movable,
    /// A page with a hardware error.
    Hwpoison,
    /// A page that a balloon or the like took away.
    Offline,
    /// A `struct page` that was never initialised.
    Unset,
    /// One of the listed edge cases.
    Edge(Edge),
}

/// Pages in a row: parts of one block of `1 << order` frames at `head`, or, with order 0, any number of single ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub head: u64,
    pub order: u8,
    pub first: u64,
    pub pages: u64,
    pub state: State,
}

impl Extent {
    /// A whole block.
    pub fn block(head: u64, order: u8, state: State) -> Self {
        Self { head, order, first: head, pages: 1 << order, state }
    }

    /// Single pages.
    pub fn singles(first: u64, pages: u64, state: State) -> Self {
        Self { head: first, order: 0, first, pages, state }
    }
}

/// Which destructor a compound page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destructor {
    Ordinary,
    Hugetlb,
}

/// What the `struct page`s of a block say, before a generation's layout is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageImage {
    pub flags: u64,
    pub mapping: u64,
    pub mapcount: u32,
    pub private: u64,
    pub refcount: u32,
    /// The order that the first tail page tells; makes the first page a compound head.
    pub order: Option<u8>,
    pub destructor: Destructor,
    /// Flags of the second tail page.
    pub second_tail_flags: u64,
    /// Not a byte of it was ever initialised.
    pub all_ones: bool,
}
