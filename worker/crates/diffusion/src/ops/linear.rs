//! Matrix products with a bias.

use candle_core::Tensor;

use crate::error::Result;
use crate::weights::{Parameter, Scope};

/// `x W^T + b` over the last dimension.
pub(crate) struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Linear {
    pub(crate) fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", (outputs, inputs))?,
            bias: Some(scope.get("bias", outputs)?),
        })
    }

    pub(crate) fn load_without_bias(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", (outputs, inputs))?,
            bias: None,
        })
    }

    /// `[.., inputs]` to `[.., outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or_default();
        // One large product instead of one a batch entry.
        let product = x
            .reshape(((), inputs))?
            .matmul(&self.weight.tensor()?.t()?)?;
        let product = match &self.bias {
            Some(bias) => product.broadcast_add(&bias.tensor()?)?,
            None => product,
        };
        shape.push(product.dim(1)?);
        Ok(product.reshape(shape)?)
    }
}
