//! What the heap promises, block by block. Not what the engine makes of it.

use super::*;

fn fill(block: *mut u8, size: usize, with: u8) {
    assert!(!block.is_null() && block.addr().is_multiple_of(16));
    unsafe { block.write_bytes(with, size) };
}

fn holds(block: *mut u8, size: usize, what: u8) -> bool {
    unsafe { std::slice::from_raw_parts(block, size) }
        .iter()
        .all(|byte| *byte == what)
}

#[test]
fn what_was_kept_comes_back_and_what_came_later_is_gone() {
    let mut heap = Heap::new(16 << 20).unwrap();
    let before = heap.alloc(5000);
    fill(before, 5000, 1);
    heap.keep();
    let mut seen = Vec::new();
    for _ in 0..2 {
        fill(before, 5000, 2);
        let small = heap.alloc(100);
        let mut large = heap.alloc(1 << 20);
        fill(small, 100, 3);
        fill(large, 1 << 20, 4);
        large = unsafe { heap.realloc(large, 3 << 20) };
        assert!(holds(large, 1 << 20, 4));
        unsafe { heap.dealloc(before) };
        seen.push(small);
        unsafe { heap.restore() };
        assert!(holds(before, 5000, 1));
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn blocks_are_used_again_grow_and_run_out() {
    let mut heap = Heap::new(1 << 20).unwrap();
    let first = heap.alloc(4096);
    fill(first, 4096, 7);
    unsafe { heap.dealloc(first) };
    let again = heap.calloc(2, 2048);
    assert_eq!(again, first);
    assert!(holds(again, 4096, 0));
    fill(again, 4096, 8);
    let grown = unsafe { heap.realloc(again, 60_000) };
    assert!(holds(grown, 4096, 8) && unsafe { Heap::usable_size(grown) } >= 60_000);
    assert!(heap.calloc(usize::MAX, 2).is_null());
    assert!(!heap.has_refused() && heap.alloc(1 << 20).is_null() && heap.has_refused());
    heap.allow(1 << 20);
    assert!(!heap.alloc(1 << 20).is_null());
}

#[test]
fn blocks_of_the_c_library_are_given_back_in_any_order() {
    let mut heap = Heap::new(1 << 20).unwrap();
    heap.keep();
    let blocks: Vec<*mut u8> = (0..4).map(|_| heap.alloc(100_000)).collect();
    for at in [1, 3, 0] {
        unsafe { heap.dealloc(blocks[at]) };
    }
    fill(blocks[2], 100_000, 9);
    let grown = unsafe { heap.realloc(blocks[2], 200_000) };
    assert!(holds(grown, 100_000, 9));
    unsafe { heap.restore() };
    assert!(heap.outside.borrow().blocks.is_empty());
    assert_eq!(heap.book().used, 0);
}
