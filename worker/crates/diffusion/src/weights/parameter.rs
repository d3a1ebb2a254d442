//! Weights that can be replaced while their model is loaded, and put back.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Tensor};

use crate::error::{Error, ErrorKind, Result};

/// One weight of a model, shared between the layer that computes with it and whoever replaces it.
///
/// Cloning it shares it. Reading it costs a lock and a reference count, nothing beside what a layer does.
#[derive(Clone)]
pub(crate) struct Parameter {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    /// What layers compute in; the value may be stored in fewer bits.
    arithmetic: DType,
    value: RwLock<Tensor>,
}

impl Parameter {
    pub(crate) fn new(name: String, value: Tensor, arithmetic: DType) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                arithmetic,
                value: RwLock::new(value),
            }),
        }
    }

    /// Its name as diffusers has it, the component in front: `unet.conv_in.weight`.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// The value in the dtype that layers compute in, widened where it is stored in fewer bits.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        Ok(self.stored().to_dtype(self.shared.arithmetic)?)
    }

    /// The value as it is stored: the very tensor, not a copy.
    pub(crate) fn stored(&self) -> Tensor {
        // A value is replaced whole, so a panic elsewhere cannot have left half of one.
        self.shared
            .value
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What layers compute in.
    pub(crate) fn arithmetic(&self) -> DType {
        self.shared.arithmetic
    }

    /// Puts another value in place and returns the one before, with which the change can be undone exactly.
    ///
    /// Errors if shape, dtype or device differ from the stored value's.
    pub(crate) fn replace(&self, value: Tensor) -> Result<Tensor> {
        let mut stored = self
            .shared
            .value
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let fits = stored.shape() == value.shape()
            && stored.dtype() == value.dtype()
            && stored.device().same_device(value.device());
        if fits {
            Ok(std::mem::replace(&mut stored, value))
        } else {
            Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "{} is {:?} {:?} and cannot become {:?} {:?}",
                    self.shared.name,
                    stored.dtype(),
                    stored.dims(),
                    value.dtype(),
                    value.dims()
                ),
            ))
        }
    }
}

/// All weights of a model by name.
pub(crate) type Parameters = BTreeMap<String, Parameter>;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_parameter_is_replaced_everywhere_and_put_back_exactly() {
        let first = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let parameter = Parameter::new("unet.x".to_owned(), first.clone(), DType::F32);
        let layers = parameter.clone();
        let old = parameter
            .replace(Tensor::new(&[3f32, 4.0], &Device::Cpu).unwrap())
            .unwrap();
        assert_eq!(
            layers.tensor().unwrap().to_vec1::<f32>().unwrap(),
            [3.0, 4.0]
        );
        parameter.replace(old).unwrap();
        assert_eq!(layers.stored().id(), first.id());
    }

    #[test]
    fn a_value_of_another_shape_or_dtype_is_refused() {
        let zeros = |length: usize, dtype| Tensor::zeros(length, dtype, &Device::Cpu).unwrap();
        let parameter = Parameter::new("unet.x".to_owned(), zeros(2, DType::F16), DType::F32);
        assert!(parameter.replace(zeros(3, DType::F16)).is_err());
        assert!(parameter.replace(zeros(2, DType::F32)).is_err());
        assert_eq!(parameter.tensor().unwrap().dtype(), DType::F32);
        assert_eq!(parameter.stored().dtype(), DType::F16);
    }
}
