//! Compares the encoders with the libraries, on pages in the processor's caches: `cargo bench -p page-codecs`.
//!
//! The pages are synthetic, with one kind of content each. `tests/benchmarks/all dump` measures real pages.

use criterion::{BenchmarkId, Criterion, Throughput};
use page_codecs::{Codec, Compressor, PAGE_SIZE};

type Page = [u8; PAGE_SIZE];

/// A generator of pseudo-random numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Pages with contents like a kernel's memory.
fn pages() -> [(&'static str, Vec<Page>); 5] {
    let noise = &mut Noise(1);
    [
        ("struct pages", many(|| words(noise, 8, 2))),
        ("structures", many(|| words(noise, 24, 9))),
        ("text", many(|| text(noise))),
        ("few bytes", many(|| few(noise))),
        ("noise", many(|| std::array::from_fn(|_| noise.next() as u8))),
    ]
}

/// Enough pages that the branch predictor cannot learn all of them.
fn many(page: impl FnMut() -> Page) -> Vec<Page> {
    std::iter::repeat_with(page).take(64).collect()
}

/// An array of structures of `size` words. At most `changed` words differ from the structure before.
fn words(noise: &mut Noise, size: usize, changed: usize) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut structure: Vec<u64> = (0..size).map(|_| word(noise)).collect();
    for chunk in page.chunks_mut(8 * size) {
        for _ in 0..changed {
            let at = noise.next() as usize % size;
            structure[at] = word(noise);
        }
        for (bytes, word) in chunk.chunks_exact_mut(8).zip(&structure) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    page
}

fn word(noise: &mut Noise) -> u64 {
    match noise.next() % 4 {
        0 => 0,
        1 => noise.next() % 300,
        2 => 0x0017_ffff_c000_0000 | (noise.next() & 0xf) << 8,
        _ => 0xffff_8880_0000_0000 | (noise.next() & 0x3ff_ffff) << 3,
    }
}

/// Text with a vocabulary of 200 words.
fn text(noise: &mut Noise) -> Page {
    let mut page = [b' '; PAGE_SIZE];
    let mut at = 0;
    while at < PAGE_SIZE {
        let mut letters = Noise(noise.next() % 200);
        let len = 2 + (letters.next() % 9) as usize;
        for byte in page[at..].iter_mut().take(len) {
            *byte = b'a' + (letters.next() % 26) as u8;
        }
        at += len + 1;
    }
    page
}

/// Zeros, except for up to 40 bytes.
fn few(noise: &mut Noise) -> Page {
    let mut page = [0; PAGE_SIZE];
    for _ in 0..40 {
        page[noise.next() as usize % PAGE_SIZE] = noise.next() as u8;
    }
    page
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let kinds = pages();
    for codec in [Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd] {
        let mut group = criterion.benchmark_group(codec.name());
        let mut out = vec![0; Compressor::ROOM];
        let mut ours = Compressor::new(codec);
        let level = libdeflater::CompressionLvl::new(1).expect("level 1 exists");
        let mut zlib = libdeflater::Compressor::new(level);
        let mut zstd = zstd::bulk::Compressor::new(1).expect("a compressor");
        for (name, pages) in &kinds {
            group.throughput(Throughput::Bytes((pages.len() * PAGE_SIZE) as u64));
            group.bench_with_input(BenchmarkId::new("ours", name), pages, |bench, pages| {
                bench.iter(|| pages.iter().filter_map(|page| ours.compress(page, &mut out)).sum::<usize>());
            });
            // There is no library encoder for lzo, and the snappy encoder is the library's own.
            let library: &mut dyn FnMut(&Page, &mut [u8]) -> usize = match codec {
                Codec::Zlib => &mut |page, out| zlib.zlib_compress(page, out).expect("room for it"),
                Codec::Zstd => &mut |page, out| zstd.compress_to_buffer(page, out).expect("room for it"),
                _ => continue,
            };
            group.bench_with_input(BenchmarkId::new("library", name), pages, |bench, pages| {
                bench.iter(|| pages.iter().map(|page| library(page, &mut out)).sum::<usize>());
            });
        }
    }
    criterion.final_summary();
}
