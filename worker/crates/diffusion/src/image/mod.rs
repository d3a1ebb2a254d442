//! Pictures and masks: 8-bit images, their sizes, and the pixel work around a drawing.
//!
//! Pure functions over bytes, with no model and no clock. Where the reference or AUTOMATIC1111 does the same, the
//! result is theirs: resizing is Pillow's Lanczos bit for bit, the box of an only-masked inpaint is theirs to the
//! pixel. The one promise that they do not make: what a mask leaves at zero keeps its bytes ([`paste()`]).
//!
//! # The rule for sizes
//!
//! A picture of any size is [stretched](Image::resize) to the size asked for, as both do unless told otherwise. The
//! model draws at multiples of its own, so the picture's last column and row are
//! [repeated](Image::extend_to) up to [`round_up`] of that size, and what was drawn is [cropped](Image::crop) back.
//! Pixels thus stay where they are, which stretching to the multiple would not do.

mod blur;
mod crop;
mod fill;
mod outpaint;
mod paste;
mod pixels;
mod resize;
mod tensor;

pub use crop::{Region, masked_region, round_up};
pub use fill::{fill_with_mean, smear};
pub use outpaint::{Edges, extend, split_alpha};
pub use paste::paste;
pub use pixels::{GrayImage, Image, RgbImage, SIDE_MAX};
pub use resize::Fit;
