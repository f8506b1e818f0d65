//! Which keys are asked for, in which order.

use std::io::Read;
use std::path::Path;

/// Zipf-distributed indices below `keys`: the one of rank r with a weight of 1 ÷ r^0.99.
pub(crate) fn zipf(keys: usize, length: usize, seed: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    // Ranks are spread over the keys, so that hot ones are not neighbours in memory.
    let mut spread: Vec<u32> = (0..keys as u32).collect();
    random.shuffle(&mut spread);
    (0..length)
        .map(|_| {
            let drawn = random.f64() * sum;
            spread[cumulated.partition_point(|weight| *weight < drawn).min(keys - 1)]
        })
        .collect()
}

/// A real trace of 32-bit keys, if it is at hand: `traces/NAME.trace.xz` in one of the folders above.
pub(crate) fn trace(name: &str, big_endian: bool) -> Option<Vec<u32>> {
    let file = format!("traces/{name}.trace.xz");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = here
        .ancestors()
        .flat_map(|dir| [dir.join(&file), dir.join("shared").join(&file)])
        .find(|path| path.is_file())?;
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(std::fs::File::open(path).ok()?).read_to_end(&mut bytes).ok()?;
    let (words, _) = bytes.as_chunks::<4>();
    Some(
        words
            .iter()
            .map(|word| if big_endian { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) })
            .collect(),
    )
}
