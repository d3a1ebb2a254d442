//! From a file's bytes to a tensor, in one pass over them on all cores: copied or rounded, and searched for NaN.

use candle_core::{DType, Device, Shape, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::error::Result;

/// Elements that one task converts: small enough for a core's cache, large enough to be worth a task.
const CHUNK: usize = 16 * 1024;

/// The dtypes that weights may have in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F64,
    F32,
    F16,
    Bf16,
}

impl Float {
    /// `None` for what is no float of a usual width.
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F64 => Some(Self::F64),
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A tensor and how many of its numbers are NaN or infinite.
pub(crate) struct Converted {
    pub(crate) tensor: Tensor,
    pub(crate) not_finite: usize,
}

/// Makes a tensor of `storage` from little-endian `bytes`, which hold as many numbers as `shape`.
pub(crate) fn convert(
    bytes: &[u8],
    from: Float,
    storage: DType,
    shape: &Shape,
    device: &Device,
) -> Result<Converted> {
    match storage {
        DType::F16 => read::<f16>(bytes, from, shape, device),
        DType::BF16 => read::<bf16>(bytes, from, shape, device),
        _ => read::<f32>(bytes, from, shape, device),
    }
}

/// A dtype that weights are kept in.
trait Kept: candle_core::WithDType + Default {
    const FLOAT: Float;
    /// Fills `to` with numbers of its own dtype.
    fn copy(to: &mut [Self], bytes: &[u8]);
    /// Fills `to` with numbers of another dtype, rounding.
    fn round(to: &mut [Self], values: &[f32]);
    fn finite(self) -> bool;
}

impl Kept for f32 {
    const FLOAT: Float = Float::F32;
    fn round(to: &mut [Self], values: &[f32]) {
        to.copy_from_slice(values);
    }
    fn copy(to: &mut [Self], bytes: &[u8]) {
        each(bytes, to, Self::from_le_bytes);
    }
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Kept for f16 {
    const FLOAT: Float = Float::F16;
    fn round(to: &mut [Self], values: &[f32]) {
        to.convert_from_f32_slice(values);
    }
    fn copy(to: &mut [Self], bytes: &[u8]) {
        each(bytes, to, Self::from_le_bytes);
    }
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Kept for bf16 {
    const FLOAT: Float = Float::Bf16;
    fn round(to: &mut [Self], values: &[f32]) {
        to.convert_from_f32_slice(values);
    }
    fn copy(to: &mut [Self], bytes: &[u8]) {
        each(bytes, to, Self::from_le_bytes);
    }
    fn finite(self) -> bool {
        self.is_finite()
    }
}

fn read<T: Kept>(bytes: &[u8], from: Float, shape: &Shape, device: &Device) -> Result<Converted> {
    let mut values = vec![T::default(); shape.elem_count()];
    let not_finite = values
        .par_chunks_mut(CHUNK)
        .zip(bytes.par_chunks(CHUNK * from.bytes()))
        .map(|(to, bytes)| {
            if from == T::FLOAT {
                T::copy(to, bytes);
            } else {
                let mut wide = vec![0f32; to.len()];
                widen(bytes, from, &mut wide);
                T::round(to, &wide);
            }
            to.iter().filter(|value| !value.finite()).count()
        })
        .sum();
    Ok(Converted {
        tensor: Tensor::from_vec(values, shape, device)?,
        not_finite,
    })
}

/// Reads little-endian numbers as f32.
fn widen(bytes: &[u8], from: Float, to: &mut [f32]) {
    match from {
        Float::F32 => each(bytes, to, f32::from_le_bytes),
        #[expect(clippy::cast_possible_truncation, reason = "rounded, as asked for")]
        Float::F64 => each(bytes, to, |bytes| f64::from_le_bytes(bytes) as f32),
        Float::F16 => {
            let mut halves = vec![f16::ZERO; to.len()];
            each(bytes, &mut halves, f16::from_le_bytes);
            halves.convert_to_f32_slice(to);
        }
        Float::Bf16 => each(bytes, to, |bytes| bf16::from_le_bytes(bytes).to_f32()),
    }
}

fn each<T, const SIZE: usize>(bytes: &[u8], to: &mut [T], read: impl Fn([u8; SIZE]) -> T) {
    for (to, bytes) in to.iter_mut().zip(bytes.chunks_exact(SIZE)) {
        if let Ok(bytes) = bytes.try_into() {
            *to = read(bytes);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// candle's own conversion of the same bytes.
    fn reference(bytes: &[u8], dtype: DType, storage: DType, shape: &Shape) -> Vec<f32> {
        Tensor::from_raw_buffer(bytes, dtype, shape.dims(), &Device::Cpu)
            .unwrap()
            // From 64 bits to 16 by way of 32, as here.
            .to_dtype(DType::F32)
            .unwrap()
            .to_dtype(storage)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn every_pair_of_dtypes_gives_candles_numbers() {
        // More than a chunk, and not a whole number of them.
        let count = CHUNK + 77;
        let shape = Shape::from(count);
        let values = (0..count).map(|index| (index as f64 - 9000.0) * 0.37 + 1e-3);
        let (mut f64s, mut f32s, mut f16s, mut bf16s) = (vec![], vec![], vec![], vec![]);
        for value in values {
            f64s.extend(value.to_le_bytes());
            f32s.extend((value as f32).to_le_bytes());
            f16s.extend(f16::from_f64(value).to_le_bytes());
            bf16s.extend(bf16::from_f64(value).to_le_bytes());
        }
        for (bytes, from, dtype) in [
            (f64s, Float::F64, DType::F64),
            (f32s, Float::F32, DType::F32),
            (f16s, Float::F16, DType::F16),
            (bf16s, Float::Bf16, DType::BF16),
        ] {
            for storage in [DType::F32, DType::F16, DType::BF16] {
                let got = convert(&bytes, from, storage, &shape, &Device::Cpu).unwrap();
                assert_eq!(got.not_finite, 0);
                assert_eq!(got.tensor.dtype(), storage);
                let got = got.tensor.to_dtype(DType::F32).unwrap();
                let wanted = reference(&bytes, dtype, storage, &shape);
                // Tens of thousands of numbers are better not printed.
                assert!(
                    got.to_vec1::<f32>().unwrap() == wanted,
                    "{from:?} to {storage:?}"
                );
            }
        }
    }

    #[test]
    fn nan_infinity_and_what_f16_cannot_hold_are_counted() {
        let bytes: Vec<u8> = [1.0, f32::NAN, f32::INFINITY, 1e6, -2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let count = |storage| {
            convert(&bytes, Float::F32, storage, &Shape::from(5), &Device::Cpu)
                .unwrap()
                .not_finite
        };
        assert_eq!(
            (count(DType::F32), count(DType::F16), count(DType::BF16)),
            (2, 3, 2)
        );
    }
}
