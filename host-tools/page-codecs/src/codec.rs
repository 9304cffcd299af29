//! The five codecs of page data, and the interface that compresses and decompresses one page.

use crate::page::{PAGE_SIZE, ROOM};
use crate::{deflate, lzo, zstd};

/// Compression of page data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not compressed.
    Raw,
    /// zlib (`makedumpfile -c`).
    Zlib,
    /// LZO1X (`makedumpfile -l`).
    Lzo,
    /// snappy, without framing (`makedumpfile -p`).
    Snappy,
    /// A Zstandard frame (`makedumpfile -z`).
    Zstd,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Zlib, Self::Lzo, Self::Snappy, Self::Zstd];

    /// The bit of the codec in `disk_dump_header.status` and `page_desc.flags`.
    pub const fn flag(self) -> u32 {
        match self {
            Self::Raw => 0,
            Self::Zlib => 0x1,
            Self::Lzo => 0x2,
            Self::Snappy => 0x4,
            Self::Zstd => 0x20,
        }
    }

    /// The codec that is set in `flags`. If several are set, the one that makedumpfile and crash check first. Other
    /// bits are ignored.
    pub fn from_flags(flags: u32) -> Self {
        [Self::Zlib, Self::Lzo, Self::Snappy, Self::Zstd]
            .into_iter()
            .find(|codec| flags & codec.flag() != 0)
            .unwrap_or(Self::Raw)
    }

    /// The codec's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zlib => "zlib",
            Self::Lzo => "lzo",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

/// Compresses pages. Reuses the codec's tables for each page.
pub struct Compressor(Encoder);

enum Encoder {
    Raw,
    Zlib(Box<deflate::Encoder>),
    Lzo(lzo::Encoder),
    Snappy(Box<snap::raw::Encoder>),
    Zstd(Box<zstd::Encoder>),
}

impl Compressor {
    /// Size of the output buffer that [`compress`](Self::compress) needs, in bytes.
    pub const ROOM: usize = ROOM;

    /// A compressor for `codec`.
    pub fn new(codec: Codec) -> Self {
        Self(match codec {
            Codec::Raw => Encoder::Raw,
            Codec::Zlib => Encoder::Zlib(Box::new(deflate::Encoder::new())),
            Codec::Lzo => Encoder::Lzo(lzo::Encoder::new()),
            Codec::Snappy => Encoder::Snappy(Box::new(snap::raw::Encoder::new())),
            Codec::Zstd => Encoder::Zstd(Box::new(zstd::Encoder::new())),
        })
    }

    /// Compresses `page` to the start of `out`. Returns the compressed length; `None` if the result is not smaller than
    /// the page, which the caller then stores uncompressed.
    ///
    /// # Panics
    /// If `out` is smaller than [`ROOM`](Self::ROOM).
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8]) -> Option<usize> {
        let out: &mut [u8; ROOM] = out.first_chunk_mut().expect("room for a page");
        // If a codec fails, the page is stored uncompressed.
        let size = match &mut self.0 {
            Encoder::Raw => None,
            Encoder::Zlib(zlib) => zlib.compress(page, out),
            Encoder::Lzo(lzo) => lzo.compress(page, out),
            Encoder::Snappy(snappy) => snappy.compress(page, out).ok(),
            Encoder::Zstd(zstd) => zstd.compress(page, out),
        }?;
        (size < PAGE_SIZE).then_some(size)
    }
}

/// Decompresses pages of any codec. Creates the tables of a codec when they are first needed.
#[derive(Default)]
pub struct Decompressor {
    zlib: Option<libdeflater::Decompressor>,
    zstd: Option<::zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Decompresses `data` to `page`. Returns `false` if `data` is not one compressed page of `codec`; `page` can then
    /// be partly overwritten.
    #[must_use]
    pub fn decompress(&mut self, codec: Codec, data: &[u8], page: &mut [u8; PAGE_SIZE]) -> bool {
        let size = match codec {
            Codec::Raw => {
                let Some(raw) = data.first_chunk().filter(|_| data.len() == PAGE_SIZE) else {
                    return false;
                };
                *page = *raw;
                Some(PAGE_SIZE)
            }
            Codec::Zlib => self
                .zlib
                .get_or_insert_with(libdeflater::Decompressor::new)
                .zlib_decompress(data, page.as_mut_slice())
                .ok(),
            Codec::Lzo => lzokay::decompress::decompress(data, page).ok(),
            Codec::Snappy => {
                // The data start with their decompressed length. Check it before the decoder uses it.
                if snap::raw::decompress_len(data).ok() != Some(PAGE_SIZE) {
                    return false;
                }
                snap::raw::Decoder::new().decompress(data, page).ok()
            }
            Codec::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = ::zstd::bulk::Decompressor::new().ok();
                }
                let zstd = self.zstd.as_mut();
                zstd.and_then(|zstd| zstd.decompress_to_buffer(data, page.as_mut_slice()).ok())
            }
        };
        size == Some(PAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pages from a run of one byte to random bytes.
    fn pages() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), PAGE_SIZE),
            (any::<u8>(), 1usize..200).prop_map(|(byte, step)| {
                (0..PAGE_SIZE).map(|i| if i % step == 0 { byte } else { (i / step) as u8 }).collect()
            }),
            (prop::collection::vec(any::<u8>(), 1..300)).prop_map(|part| part
                .into_iter()
                .cycle()
                .take(PAGE_SIZE)
                .collect()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_page_survives_every_codec(pages in prop::collection::vec(pages(), 1..4)) {
            for codec in Codec::ALL {
                let (mut compressor, mut decompressor) = (Compressor::new(codec), Decompressor::default());
                for page in &pages {
                    let page: &[u8; PAGE_SIZE] = page.as_slice().try_into().unwrap();
                    let mut out = vec![0xaa; ROOM];
                    let Some(size) = compressor.compress(page, &mut out) else { continue };
                    prop_assert!(size < PAGE_SIZE);
                    let mut back = [0; PAGE_SIZE];
                    prop_assert!(decompressor.decompress(codec, &out[..size], &mut back), "{:?}", codec);
                    prop_assert!(back == *page);
                }
            }
        }

        #[test]
        fn any_data_is_decompressed_or_rejected(data in prop::collection::vec(any::<u8>(), 0..5000)) {
            let mut decompressor = Decompressor::default();
            for codec in Codec::ALL {
                let _ = decompressor.decompress(codec, &data, &mut [0; PAGE_SIZE]);
            }
        }
    }

    #[test]
    fn random_bytes_are_not_compressed() {
        let mut state = 1u64;
        let noise: [u8; PAGE_SIZE] = std::array::from_fn(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        });
        for codec in Codec::ALL {
            let mut out = vec![0; ROOM];
            assert_eq!(Compressor::new(codec).compress(&noise, &mut out), None, "{codec:?}");
        }
    }

    #[test]
    fn from_flags_inverts_flag() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_flags(codec.flag() | 0x18), codec);
        }
        assert_eq!(Codec::from_flags(0x3), Codec::Zlib);
    }
}
