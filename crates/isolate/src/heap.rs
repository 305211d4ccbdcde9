//! The heap of a loaded bundle: memory that can be put back, byte for byte, to what it was before an invocation.
//!
//! Everything that the engine knows lies in one region that never moves: its runtime, its context, the globals, the
//! modules. A copy of the region taken before any of a user's code has run is the fresh context; copying it back takes
//! microseconds, and nothing that an invocation left behind can outlive it. Not a general allocator: it serves few large
//! blocks, for the engine cuts its small ones out of pages by itself.

use std::{cell::RefCell, ptr::NonNull, rc::Rc};

use rquickjs::allocator::Allocator;

/// Where blocks begin. A block's own size lies in front of it.
const HEADER: usize = 16;

/// Sizes are rounded up to this, up to `FINE_MAX`; one list of free blocks for each.
const FINE: usize = 64;
const FINE_MAX: usize = 8 << 10;

/// The same for blocks up to `BLOCK_MAX`. Larger ones come from the C library, which can grow them in place.
const COARSE: usize = 4 << 10;
const BLOCK_MAX: usize = 64 << 10;

const LISTS: usize = FINE_MAX / FINE + BLOCK_MAX / COARSE + 2;

/// What a restored region keeps beyond the copy; more goes back to the system.
const KEPT: usize = 2 << 20;

/// Address space beyond the limit, for what is lost between the blocks.
const SPARE: usize = 32 << 20;

/// A block of the region, not of the C library.
const IN_REGION: usize = usize::MAX;

/// In front of each block.
struct Header {
    /// Bytes that may be used.
    size: usize,
    /// `IN_REGION`, or the place in `Outside::blocks`.
    place: usize,
}

/// The beginning of the region, so that it is copied and restored with it.
struct Book {
    /// Bytes from the start of the region that were ever used.
    top: usize,
    /// Bytes of the blocks that are out, headers included.
    used: usize,
    /// The most that `used` may be.
    limit: usize,
    /// Whether a block was refused.
    has_refused: bool,
    /// Free blocks by size: each begins with the address of the next.
    free: [*mut u8; LISTS],
}

/// What the region does not hold.
#[derive(Default)]
struct Outside {
    /// The copy; empty until it is taken.
    copy: Vec<u8>,
    /// Blocks of the C library, by `Header::place`.
    blocks: Vec<*mut Header>,
}

/// A heap. Clones are the same heap. Its region is never given back: a process has one or two in its life.
#[derive(Clone)]
pub struct Heap {
    region: NonNull<u8>,
    size: usize,
    outside: Rc<RefCell<Outside>>,
}

impl Heap {
    /// A heap whose blocks have `limit` bytes at most. `None` if there is no address space for them.
    ///
    /// The limit is kept here and not by the engine, which cannot always say that it was the cause of an error.
    pub fn new(limit: usize) -> Option<Heap> {
        let size = limit.saturating_add(SPARE);
        // SAFETY: a new mapping overlaps nothing.
        #[expect(unsafe_code, reason = "memory that the engine manages")]
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return None;
        }
        let heap = Heap {
            region: NonNull::new(address.cast())?,
            size,
            outside: Rc::default(),
        };
        heap.book().top = size_of::<Book>().next_multiple_of(FINE);
        heap.book().limit = limit;
        Some(heap)
    }

    /// Whether a block was refused since `keep`.
    pub fn has_refused(&self) -> bool {
        self.book().has_refused
    }

    /// Allows this many bytes more, until the heap is restored.
    pub fn allow(&self, bytes: usize) {
        self.book().limit += bytes;
    }

    /// Enters `room` bytes as used; whether they may be.
    fn charge(&self, room: usize) -> bool {
        let book = self.book();
        let is_within = room <= book.limit.saturating_sub(book.used);
        if is_within {
            book.used += room;
        } else {
            book.has_refused = true;
        }
        is_within
    }

    /// From now on, `restore` leads back here.
    pub fn keep(&self) {
        let top = self.book().top;
        // SAFETY: the first `top` bytes are mapped and were written.
        #[expect(unsafe_code, reason = "memory that the engine manages")]
        let used = unsafe { std::slice::from_raw_parts(self.region.as_ptr(), top) };
        self.outside.borrow_mut().copy = used.to_vec();
    }

    /// Bytes that `restore` copies.
    pub fn kept(&self) -> usize {
        self.outside.borrow().copy.len()
    }

    /// Puts the heap back to what it was at `keep`.
    ///
    /// # Safety
    /// The engine must not be running, and no value of it may be held that came into being since.
    #[expect(unsafe_code, reason = "values of the engine would dangle")]
    pub unsafe fn restore(&self) {
        let mut outside = self.outside.borrow_mut();
        for block in outside.blocks.drain(..) {
            // SAFETY: the block came from `malloc`, and what pointed to it is overwritten below.
            unsafe { libc::free(block.cast()) };
        }
        let copy = &outside.copy;
        let kept = (copy.len() + KEPT).next_multiple_of(4096);
        let spare = self.book().top.saturating_sub(kept);
        // SAFETY: both ranges are mapped; the region is at least as long as the copy, and no part of it.
        unsafe {
            std::ptr::copy_nonoverlapping(copy.as_ptr(), self.region.as_ptr(), copy.len());
            if spare > 0 {
                libc::madvise(
                    self.region.as_ptr().add(kept).cast(),
                    spare,
                    libc::MADV_DONTNEED,
                );
            }
        }
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "one thread, and no call lends it twice"
    )]
    fn book(&self) -> &mut Book {
        // SAFETY: the region begins with a book; zeroes, as which it is born, are a valid one.
        #[expect(unsafe_code, reason = "memory that the engine manages")]
        unsafe {
            self.region.cast::<Book>().as_mut()
        }
    }

    /// A block of at least `size` bytes from the region.
    fn take(&self, size: usize) -> *mut u8 {
        let (list, room) = class(size);
        if !self.charge(room) {
            return std::ptr::null_mut();
        }
        let book = self.book();
        // SAFETY: free blocks hold the address of the next; a new one ends inside the region.
        #[expect(unsafe_code, reason = "memory that the engine manages")]
        unsafe {
            if let Some(list) = list
                && !book.free[list].is_null()
            {
                let block = book.free[list];
                book.free[list] = block.cast::<*mut u8>().read();
                return block;
            }
            if room > self.size - book.top {
                book.used -= room;
                book.has_refused = true;
                return std::ptr::null_mut();
            }
            let header = self.region.as_ptr().add(book.top).cast::<Header>();
            book.top += room;
            header.write(Header {
                size: room - HEADER,
                place: IN_REGION,
            });
            header.cast::<u8>().add(HEADER)
        }
    }

    /// A block of the C library, entered in the list of those.
    fn take_outside(&self, size: usize, is_zeroed: bool) -> *mut u8 {
        if !self.charge(size.saturating_add(HEADER)) {
            return std::ptr::null_mut();
        }
        let mut outside = self.outside.borrow_mut();
        // SAFETY: the header is written before anybody reads it.
        #[expect(unsafe_code, reason = "memory that the engine manages")]
        unsafe {
            let block: *mut Header = if is_zeroed {
                libc::calloc(1, size + HEADER).cast()
            } else {
                libc::malloc(size + HEADER).cast()
            };
            if block.is_null() {
                self.book().has_refused = true;
                return std::ptr::null_mut();
            }
            let place = outside.blocks.len();
            block.write(Header { size, place });
            outside.blocks.push(block);
            block.cast::<u8>().add(HEADER)
        }
    }

    /// Whether a block of this size comes from the C library: none does that `keep` must copy.
    fn is_outside(&self, size: usize) -> bool {
        size > BLOCK_MAX - HEADER && !self.outside.borrow().copy.is_empty()
    }
}

/// Which list of free blocks is for this size, if any, and the room that a block of it takes, header included.
fn class(size: usize) -> (Option<usize>, usize) {
    let room = size.saturating_add(HEADER);
    if room <= FINE_MAX {
        let room = room.next_multiple_of(FINE);
        (Some(room / FINE), room)
    } else if room <= BLOCK_MAX {
        let room = room.next_multiple_of(COARSE);
        (Some(FINE_MAX / FINE + room / COARSE), room)
    } else {
        (None, room.checked_next_multiple_of(COARSE).unwrap_or(room))
    }
}

// SAFETY: blocks are aligned to 16 bytes, do not overlap, and their headers tell how much of them may be used.
#[expect(unsafe_code, reason = "memory that the engine manages")]
unsafe impl Allocator for Heap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if self.is_outside(size) {
            self.take_outside(size, false)
        } else {
            self.take(size)
        }
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        let Some(size) = count.checked_mul(size) else {
            return std::ptr::null_mut();
        };
        if self.is_outside(size) {
            return self.take_outside(size, true);
        }
        let block = self.take(size);
        if !block.is_null() {
            // SAFETY: the block has at least this size. It may have been used before.
            unsafe { block.write_bytes(0, size) };
        }
        block
    }

    unsafe fn dealloc(&mut self, block: *mut u8) {
        // SAFETY: the engine gives back what it got from here.
        unsafe {
            let header = block.sub(HEADER).cast::<Header>();
            let Header { size, place } = header.read();
            self.book().used -= size + HEADER;
            if place != IN_REGION {
                let mut outside = self.outside.borrow_mut();
                outside.blocks.swap_remove(place);
                if let Some(moved) = outside.blocks.get(place) {
                    (**moved).place = place;
                }
                libc::free(header.cast());
            } else if let (Some(list), _) = class(size) {
                let book = self.book();
                block.cast::<*mut u8>().write(book.free[list]);
                book.free[list] = block;
            }
        }
    }

    unsafe fn realloc(&mut self, block: *mut u8, new_size: usize) -> *mut u8 {
        if block.is_null() {
            return self.alloc(new_size);
        }
        // SAFETY: the engine gives back what it got from here; the sizes in the headers bound what is copied.
        unsafe {
            let header = block.sub(HEADER).cast::<Header>();
            let Header { size, place } = header.read();
            if place != IN_REGION {
                if new_size > size && !self.charge(new_size - size) {
                    return std::ptr::null_mut();
                }
                let grown: *mut Header = libc::realloc(header.cast(), new_size + HEADER).cast();
                if grown.is_null() {
                    return std::ptr::null_mut();
                }
                self.book().used -= size.saturating_sub(new_size);
                (*grown).size = new_size;
                self.outside.borrow_mut().blocks[place] = grown;
                return grown.cast::<u8>().add(HEADER);
            }
            if new_size <= size {
                return block;
            }
            let moved = self.alloc(new_size);
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(block, moved, size);
                self.dealloc(block);
            }
            moved
        }
    }

    unsafe fn usable_size(block: *mut u8) -> usize {
        // SAFETY: every block has a header.
        unsafe { (*block.sub(HEADER).cast::<Header>()).size }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "the allocator's own words")]
mod tests;
