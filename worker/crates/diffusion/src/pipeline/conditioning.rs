//! What the unet is told besides the latents, and how its answers are put together.

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::pipeline::{DrawParams, Pipeline};
use crate::unet::{AddedConditioning, Conditioning, embed_guidance};

/// The prompts, ready for the unet.
pub(super) struct Prompts {
    /// With guidance: a batch of two, the negative prompt first.
    conditioning: Conditioning,
    /// Classifier-free guidance (Ho and Salimans 2022), where it is on.
    guidance: Option<Guidance>,
}

struct Guidance {
    scale: f64,
    rescale: f64,
}

impl Pipeline {
    pub(super) fn encode_prompts(&self, params: &DrawParams) -> Result<Prompts> {
        // A model that was told the guidance scale in training has guidance in its own output.
        let guided = params.guidance_scale > 1.0 && self.guidance_dim.is_none();
        let embedding = if guided {
            self.encode_guided(&params.prompt, &params.negative_prompt, params.clip_skip)?
        } else {
            self.encode_prompt(&params.prompt, params.clip_skip)?
        };
        let added = match embedding.pooled {
            Some(pooled) => Some(AddedConditioning {
                time_ids: self.time_ids(params, pooled.dim(0)?)?,
                pooled,
            }),
            None => None,
        };
        Ok(Prompts {
            conditioning: Conditioning {
                hidden: embedding.hidden,
                added,
                guidance: match self.guidance_dim {
                    Some(dim) => Some(embed_guidance(params.guidance_scale, dim, &self.device)?),
                    None => None,
                },
            },
            guidance: guided.then_some(Guidance {
                scale: params.guidance_scale,
                rescale: params.guidance_rescale,
            }),
        })
    }

    /// What SDXL is told of sizes, `[batch, 6]`: original size, crop corner and target size. The refiner, `[batch, 5]`,
    /// knows a score of beauty instead of the target size.
    fn time_ids(&self, params: &DrawParams, batch: usize) -> Result<Tensor> {
        const SCORE: f32 = 6.0;
        const NEGATIVE_SCORE: f32 = 2.5;
        #[expect(
            clippy::cast_precision_loss,
            reason = "dimensions are at most a few thousand"
        )]
        let (height, width) = (params.height as f32, params.width as f32);
        let sizes = vec![height, width, 0.0, 0.0];
        let rows: Vec<Vec<f32>> = if self.scores_beauty {
            let row = |score| [sizes.clone(), vec![score]].concat();
            if batch > 1 {
                vec![row(NEGATIVE_SCORE), row(SCORE)]
            } else {
                vec![row(SCORE)]
            }
        } else {
            vec![[sizes, vec![height, width]].concat(); batch]
        };
        Ok(Tensor::new(rows, &self.device)?)
    }

    /// The unet's output for `input`, `[1, in_channels, h, w]`, with guidance where it is on.
    pub(super) fn predict(
        &self,
        input: &Tensor,
        timestep: f64,
        prompts: &Prompts,
    ) -> Result<Tensor> {
        let Some(guidance) = &prompts.guidance else {
            return self.unet.forward(input, timestep, &prompts.conditioning);
        };
        let both = Tensor::cat(&[input, input], 0)?;
        let output = self.unet.forward(&both, timestep, &prompts.conditioning)?;
        let without = output.narrow(0, 0, 1)?;
        let with = output.narrow(0, 1, 1)?;
        let guided = (&without + ((&with - &without)? * guidance.scale)?)?;
        if guidance.rescale > 0.0 {
            rescale(&guided, &with, guidance.rescale)
        } else {
            Ok(guided)
        }
    }
}

/// Takes `share` of the spread that guidance added back out (Lin et al., "Common Diffusion Noise Schedules and Sample
/// Steps are Flawed", section 3.4).
fn rescale(guided: &Tensor, with: &Tensor, share: f64) -> Result<Tensor> {
    let spread = |x: &Tensor| -> Result<Tensor> { Ok(x.flatten_all()?.var(D::Minus1)?.sqrt()?) };
    let ratio = (spread(with)? / spread(guided)?)?;
    let rescaled = guided.broadcast_mul(&ratio)?;
    Ok(((rescaled * share)? + (guided * (1.0 - share))?)?)
}
