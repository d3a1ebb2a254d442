//! One layer of a LoRA: what it adds to one weight.
//!
//! Low rank: Hu et al. 2021. Hadamard products: FedPara, Hyeon-Woo et al. 2022. Kronecker products: KronA, Edalati et
//! al. 2022. Their convolutions and the Tucker cores: LyCORIS, Yeh et al. 2024. Magnitudes: DoRA, Liu et al. 2024.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// What a layer adds to a weight, with everything that a weight of the model is changed by.
pub(super) struct Change {
    /// The name of the weight's layer as the file has it.
    pub(super) place: String,
    /// Which of the layer's weights.
    pub(super) target: Target,
    pub(super) factors: Factors,
    /// What the product is multiplied by at scale 1: alpha by rank.
    pub(super) strength: f64,
    pub(super) magnitude: Option<Magnitude>,
}

/// A weight of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    Weight,
    Bias,
}

impl Target {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
        }
    }
}

/// How the change of a weight is written down. Rows are outputs, columns inputs times kernel.
pub(super) enum Factors {
    /// The change itself.
    Full(Tensor),
    /// A product of matrices.
    Product(Product),
    /// Two products multiplied entry by entry.
    Hadamard(Product, Product),
    /// The Kronecker product of two matrices.
    Kronecker(Kronecker, Kronecker),
}

/// `up [rows, rank]` times `down [rank, columns]`, through a core `[rank, rank, kernel, kernel]` where there is one.
pub(super) struct Product {
    pub(super) up: Tensor,
    pub(super) down: Tensor,
    pub(super) core: Option<Tensor>,
}

/// A factor of a Kronecker product: whole, or a product itself.
pub(super) enum Kronecker {
    Whole(Tensor),
    Product(Product),
}

/// The lengths that a weight's rows or columns are brought to after the change.
pub(super) enum Magnitude {
    /// One for every output.
    Outputs(Tensor),
    /// One for every input, over outputs and kernel.
    Inputs(Tensor),
}

impl Factors {
    /// Rows and columns of the change.
    pub(super) fn size(&self) -> Result<(usize, usize)> {
        Ok(match self {
            Self::Full(change) => rows_and_columns(change)?,
            Self::Product(product) | Self::Hadamard(product, _) => product.size()?,
            Self::Kronecker(left, right) => {
                let ((a, b), (c, d)) = (left.size()?, right.size()?);
                (a * c, b * d)
            }
        })
    }

    /// Whether two products that are multiplied entry by entry are of one size.
    pub(super) fn agree(&self) -> Result<bool> {
        match self {
            Self::Hadamard(left, right) => Ok(left.size()? == right.size()?),
            Self::Full(_) | Self::Product(_) | Self::Kronecker(..) => Ok(true),
        }
    }

    /// The change times `scale`, f32, `[rows, columns]`.
    fn times(&self, scale: f64, device: &Device) -> Result<Tensor> {
        match self {
            Self::Full(change) => {
                let size = rows_and_columns(change)?;
                Ok((on(change, device)?.reshape(size)? * scale)?)
            }
            Self::Product(product) => product.times(scale, device),
            Self::Hadamard(left, right) => {
                Ok((left.times(scale, device)? * right.times(1.0, device)?)?)
            }
            Self::Kronecker(left, right) => {
                let (left, right) = (left.times(scale, device)?, right.times(1.0, device)?);
                let ((a, b), (c, d)) = (left.dims2()?, right.dims2()?);
                Ok(left
                    .reshape((a, 1, b, 1))?
                    .broadcast_mul(&right.reshape((1, c, 1, d))?)?
                    .reshape((a * c, b * d))?)
            }
        }
    }
}

impl Kronecker {
    fn size(&self) -> Result<(usize, usize)> {
        match self {
            Self::Whole(whole) => rows_and_columns(whole),
            Self::Product(product) => product.size(),
        }
    }

    fn times(&self, scale: f64, device: &Device) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => {
                let size = rows_and_columns(whole)?;
                Ok((on(whole, device)?.reshape(size)? * scale)?)
            }
            Self::Product(product) => product.times(scale, device),
        }
    }
}

impl Product {
    /// Whether the matrices can be multiplied.
    pub(super) fn fits(&self) -> Result<bool> {
        let (up, down) = (rows_and_columns(&self.up)?, rows_and_columns(&self.down)?);
        Ok(match &self.core {
            None => up.1 == down.0,
            Some(core) => core.rank() == 4 && core.dim(0)? == up.1 && core.dim(1)? == down.0,
        })
    }

    fn size(&self) -> Result<(usize, usize)> {
        let (rows, columns) = (self.up.dim(0)?, rows_and_columns(&self.down)?.1);
        Ok(match &self.core {
            None => (rows, columns),
            Some(core) => (rows, columns * core.dim(2)? * core.dim(3)?),
        })
    }

    fn times(&self, scale: f64, device: &Device) -> Result<Tensor> {
        let (up_size, down_size) = (rows_and_columns(&self.up)?, rows_and_columns(&self.down)?);
        // The smallest factor is scaled, not the product.
        let up = (on(&self.up, device)?.reshape(up_size)? * scale)?;
        let down = on(&self.down, device)?.reshape(down_size)?;
        let Some(core) = &self.core else {
            return Ok(up.matmul(&down)?);
        };
        let (rank_up, rank_down, height, width) = core.dims4()?;
        let kernel = height * width;
        let rows = up_size.0;
        let columns = down_size.1;
        let core = on(core, device)?.reshape((rank_up, rank_down * kernel))?;
        Ok(up
            .matmul(&core)?
            .reshape((rows, rank_down, kernel))?
            .transpose(1, 2)?
            .reshape((rows * kernel, rank_down))?
            .matmul(&down)?
            .reshape((rows, kernel, columns))?
            .transpose(1, 2)?
            .reshape((rows, columns * kernel))?)
    }
}

impl Change {
    /// `weight` with this change at `scale`. `base` is the model's own weight; both f32 of one shape.
    ///
    /// A magnitude applies to what other changes have left, measured by the model's own weight, as peft does.
    pub(super) fn apply(&self, weight: &Tensor, base: &Tensor, scale: f64) -> Result<Tensor> {
        let change = self
            .factors
            .times(scale * self.strength, weight.device())?
            .reshape(weight.shape())?;
        match &self.magnitude {
            None => Ok((weight + change)?),
            Some(magnitude) => {
                let factor = magnitude.factor(&(base + &change)?)?;
                Ok((weight + change)?.broadcast_mul(&factor)?)
            }
        }
    }
}

impl Magnitude {
    /// What brings `weight` to these lengths, in a shape that broadcasts over it.
    fn factor(&self, weight: &Tensor) -> Result<Tensor> {
        let (rows, columns) = rows_and_columns(weight)?;
        let mut shape = vec![1; weight.rank()];
        let squares = weight.sqr()?;
        let (lengths, wanted, axis) = match self {
            Self::Outputs(wanted) => (squares.reshape((rows, columns))?.sum(1)?, wanted, 0),
            Self::Inputs(wanted) => {
                let inputs = weight.dim(1)?;
                let sums = squares.reshape((rows, inputs, columns / inputs))?.sum(2)?;
                (sums.sum(0)?, wanted, 1)
            }
        };
        if let Some(size) = shape.get_mut(axis) {
            *size = lengths.elem_count();
        }
        let wanted = on(wanted, weight.device())?.flatten_all()?;
        Ok((wanted / lengths.sqrt()?)?.reshape(shape)?)
    }

    /// How many lengths there are.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Outputs(wanted) | Self::Inputs(wanted) => wanted.elem_count(),
        }
    }
}

/// `[rows, everything else]`.
pub(super) fn rows_and_columns(tensor: &Tensor) -> Result<(usize, usize)> {
    let rows = tensor.dim(0)?;
    Ok((rows, tensor.elem_count() / rows.max(1)))
}

fn on(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    Ok(tensor.to_device(device)?.to_dtype(DType::F32)?)
}
