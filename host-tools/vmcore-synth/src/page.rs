//! The state of a simulated machine's page, and the values of its `struct page`.

/// The kinds of edge cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// An anonymous head at a frame that is not aligned to its order.
    MisalignedOrder,
    /// A hugetlb head at a frame that is not aligned to its order.
    MisalignedHugetlb,
    /// An anonymous head of order 63.
    Order63,
    /// An anonymous head of order 64.
    Order64,
    /// A head in the last of 512 `struct page`s.
    ChunkEnd,
    /// A free block of order 11.
    BuddyOrder,
    /// A free block with the slab flag.
    BuddySlab,
    /// An anonymous page with `PG_waiters`.
    AnonWaiters,
    /// An offline page with `PG_waiters`.
    OfflineWaiters,
    /// A kernel compound page with `PG_hwpoison` on its head.
    HwpoisonHead,
    /// A kernel compound page with `PG_hwpoison` on a tail.
    HwpoisonTail,
    /// A `struct page` with all bits set.
    AllOnes,
    /// A kernel compound page whose first tail has the bit of `PG_hugetlb`.
    FalseHugetlb,
    /// An offline page whose page type has owner data in its low bits.
    OwnerBits,
    /// A page with `PG_swapcache` but without `PG_swapbacked`.
    SwapCacheAlone,
    /// A slab page with an odd pointer at the offset of `mapping`.
    SlabOddMapping,
    /// An anonymous page with private data.
    AnonPrivate,
}

/// The use of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A free block of the buddy allocator.
    Free,
    /// A free page in a per-CPU list; its `struct page` does not mark it as free.
    PerCpuFree,
    /// Memory that a confidential guest has not accepted yet.
    Unaccepted,
    /// Anonymous memory on an LRU list.
    Anon,
    /// Anonymous memory isolated from its LRU list.
    AnonIsolated,
    /// Anonymous memory merged by KSM.
    Ksm,
    /// Page cache of a file.
    Cache,
    /// Page cache with private data (`PG_private`).
    CachePrivate,
    /// Page cache that is not yet on its LRU list.
    CacheBatch,
    /// Shared memory.
    Shmem,
    /// Shared memory in the swap cache, not on an LRU list.
    SwapCache,
    /// A hugetlb page.
    Hugetlb,
    Slab,
    PageTable,
    Kernel,
    Reserved,
    /// A movable kernel page: `mapping` has the movable flag, but not the anonymous one.
    Movable,
    /// A page with a hardware error.
    Hwpoison,
    /// A logically offline page, for example in a balloon.
    Offline,
    /// An uninitialised `struct page`.
    Unset,
    /// An edge case of [`EDGE_CASES`](super::edge::EDGE_CASES).
    Edge(Edge),
}

/// Contiguous pages: part of one block of `1 << order` frames at `head`, or any number of single pages if `order` is 0.
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

/// The destructor of a compound page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destructor {
    Ordinary,
    Hugetlb,
}

/// The values of a block's `struct page`s, independent of a generation's layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageImage {
    pub flags: u64,
    pub mapping: u64,
    pub mapcount: u32,
    pub private: u64,
    pub refcount: u32,
    /// The order in the first tail page. `Some` makes the first page a compound head.
    pub order: Option<u8>,
    pub destructor: Destructor,
    /// Flags of the second tail page.
    pub second_tail_flags: u64,
    /// All bits are set, as in an uninitialised `struct page`.
    pub all_ones: bool,
}
