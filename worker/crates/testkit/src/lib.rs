//! What Scumble's tests share. Never a dependency of shipped code.

use std::path::PathBuf;

/// The folder of a tiny random model in the diffusers layout: real architecture, real files, meaningless pictures of
/// 32×32 pixels in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TinyModel {
    /// Stable Diffusion 1.5's shape.
    Sd1,
    /// Stable Diffusion 2.1's shape.
    Sd2,
    /// SDXL's shape.
    Sdxl,
}

impl TinyModel {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Sd1, Self::Sd2, Self::Sdxl];

    /// The family that the model is recognised as, which is also its folder's name.
    #[must_use]
    pub fn family(self) -> &'static str {
        match self {
            Self::Sd1 => "sd1",
            Self::Sd2 => "sd2",
            Self::Sdxl => "sdxl",
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../diffusion/tests/golden")
            .join(self.family())
    }
}

#[cfg(test)]
mod tests {
    use super::TinyModel;

    #[test]
    fn every_tiny_model_is_there() {
        for model in TinyModel::ALL {
            assert!(
                model.folder().join("model_index.json").is_file(),
                "{model:?}"
            );
        }
    }
}
