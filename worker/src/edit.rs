//! A request and its images in the diffusion crate's words: one place for the server and the shell, so that both draw
//! the same.

use crate::decode::{Picture, PictureError};
use scumble_diffusion::{
    DrawParams, Edges, Error as DiffusionError, GrayImage, Inpaint, InpaintFill as Fill, RgbImage,
    SchedulerKind, Start, extend,
};
use scumble_protocol::{InpaintFill, NormalizedRequest, Outpaint, Task};

/// Why a request cannot be drawn that was accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// A file that was an image is one no longer.
    #[error("{field} {source}")]
    Picture {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        source: PictureError,
    },
    /// The pixels do not make an image.
    #[error(transparent)]
    Pixels(#[from] DiffusionError),
    /// The request asks for an image that is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// The files of a request's images.
#[derive(Debug, Default)]
pub struct Sources {
    /// What it starts from.
    pub init_image: Option<Vec<u8>>,
    /// Which part of that is drawn anew.
    pub mask: Option<Vec<u8>>,
}

/// What to draw. Decodes the images, which takes a while.
///
/// # Errors
/// If an image that the request needs is missing or broken.
pub fn params(request: &NormalizedRequest, sources: Sources) -> Result<DrawParams, EditError> {
    Ok(DrawParams {
        prompt: request.prompt.as_str().to_owned(),
        negative_prompt: request.negative_prompt.as_str().to_owned(),
        width: to_usize(request.width.get()),
        height: to_usize(request.height.get()),
        steps: to_usize(request.steps.get()),
        guidance_scale: request.guidance_scale.get(),
        guidance_rescale: request.guidance_rescale.get(),
        clip_skip: to_usize(request.clip_skip.get()),
        seed: request.seed.0,
        n: to_usize(request.n.get()),
        scheduler: request.scheduler.as_str().parse::<SchedulerKind>()?,
        start: start(request, sources)?,
    })
}

fn start(request: &NormalizedRequest, sources: Sources) -> Result<Start, EditError> {
    if request.task == Task::TextToImage {
        return Ok(Start::Noise);
    }
    let strength = request
        .strength
        .ok_or(EditError::Missing("strength"))?
        .get();
    let picture = decode("init_image", sources.init_image)?;
    if request.task == Task::ImageToImage {
        return Ok(Start::Image {
            image: picture.to_rgb()?,
            strength,
        });
    }
    let has_mask = request.mask.is_some();
    let (image, mask) = if has_mask {
        let mask = decode("mask", sources.mask)?.to_mask()?;
        (picture.to_rgb()?, Some(mask))
    } else if picture.has_transparency() {
        let (image, hole) = picture.to_rgb_and_hole()?;
        (image, Some(hole))
    } else {
        (picture.to_rgb()?, None)
    };
    drop(picture);
    let mask_invert = request.mask_invert.unwrap_or(false);
    let canvas = canvas(image, mask, mask_invert, request.outpaint)?;
    Ok(Start::Inpaint(Inpaint {
        image: canvas.image,
        mask: canvas.mask,
        strength,
        mask_blur: request.mask_blur.map_or(0.0, |blur| blur.get()),
        mask_invert: canvas.mask_invert,
        only_masked: (request.only_masked == Some(true)).then(|| {
            to_usize(
                request
                    .only_masked_padding
                    .map_or(0, |padding| padding.get()),
            )
        }),
        fill: match request.inpaint_fill.unwrap_or_default() {
            InpaintFill::Original => Fill::Original,
            InpaintFill::Noise => Fill::Noise,
            InpaintFill::Blur => Fill::Blur,
            InpaintFill::Fill => Fill::Fill,
        },
    }))
}

/// What is drawn on.
struct Canvas {
    image: RgbImage,
    mask: GrayImage,
    mask_invert: bool,
}

/// The image and its mask, larger by what is to be added. What is added is drawn whatever the mask says, hence a mask
/// that is to be inverted is so before.
fn canvas(
    image: RgbImage,
    mask: Option<GrayImage>,
    mask_invert: bool,
    outpaint: Option<Outpaint>,
) -> Result<Canvas, EditError> {
    let Some(outpaint) = outpaint else {
        return Ok(Canvas {
            image,
            mask: mask.ok_or(EditError::Missing("mask"))?,
            mask_invert,
        });
    };
    let edges = Edges {
        left: to_usize(outpaint.left.get()),
        top: to_usize(outpaint.top.get()),
        right: to_usize(outpaint.right.get()),
        bottom: to_usize(outpaint.bottom.get()),
    };
    let (extended, added) = extend(&image, edges)?;
    let mask = match mask {
        None => added,
        Some(mask) => {
            let mask = mask.resize(image.width(), image.height())?;
            let mask = if mask_invert { mask.inverted() } else { mask };
            union(&added, &mask, edges)?
        }
    };
    Ok(Canvas {
        image: extended,
        mask,
        mask_invert: false,
    })
}

/// `added` with `mask` laid into the part of it that is not added.
fn union(added: &GrayImage, mask: &GrayImage, edges: Edges) -> Result<GrayImage, EditError> {
    let width = added.width();
    let mut pixels = added.pixels().to_vec();
    let rows = pixels.chunks_exact_mut(width.max(1)).skip(edges.top);
    for (row, drawn) in rows.zip(mask.pixels().chunks_exact(mask.width().max(1))) {
        for (pixel, drawn) in row.iter_mut().skip(edges.left).zip(drawn) {
            *pixel = (*pixel).max(*drawn);
        }
    }
    Ok(GrayImage::new(width, added.height(), pixels)?)
}

fn decode(field: &'static str, file: Option<Vec<u8>>) -> Result<Picture, EditError> {
    let file = file.ok_or(EditError::Missing(field))?;
    Picture::decode(&file).map_err(|source| EditError::Picture { field, source })
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scumble_protocol::OutpaintPixels;

    #[test]
    fn what_is_added_is_drawn_whatever_the_mask_says() {
        let image = RgbImage::filled(2, 1, [9, 9, 9]).expect("image");
        let mask = GrayImage::new(2, 1, vec![255, 0]).expect("mask");
        let outpaint = Outpaint {
            left: OutpaintPixels::new(1).expect("pixels"),
            bottom: OutpaintPixels::new(1).expect("pixels"),
            ..Outpaint::default()
        };
        for (mask_invert, expected) in [
            (false, [255, 255, 0, 255, 255, 255]),
            (true, [255, 0, 255, 255, 255, 255]),
        ] {
            let canvas = canvas(
                image.clone(),
                Some(mask.clone()),
                mask_invert,
                Some(outpaint),
            )
            .expect("canvas");
            assert_eq!((canvas.mask.width(), canvas.mask.height()), (3, 2));
            assert_eq!(canvas.mask.pixels(), expected);
            assert!(!canvas.mask_invert);
        }
    }
}
