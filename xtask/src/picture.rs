//! Looks at a drawn picture: is it one, and is its background of the colour that was asked for?

use anyhow::{Context, Result, bail};
use png::{ColorType, Decoder, Transformations};
use std::io::Cursor;

/// How far blue must stand above red and green, of 255.
const BLUE_MARGIN: f64 = 25.0;
/// Below this standard deviation a picture counts as empty, of 255.
const DEVIATION_MIN: f64 = 4.0;

/// Decoded pixels.
#[derive(Debug)]
pub(crate) struct Picture {
    width: usize,
    height: usize,
    /// Row by row, from the top left.
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads an 8-bit RGB or RGBA PNG; transparency is left out.
    pub(crate) fn from_png(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().context("the picture is no PNG")?;
        let size = reader
            .output_buffer_size()
            .context("the picture is too large")?;
        let mut buffer = vec![0; size];
        let frame = reader
            .next_frame(&mut buffer)
            .context("the PNG is broken")?;
        let channels = match frame.color_type {
            ColorType::Rgb => 3,
            ColorType::Rgba => 4,
            other => bail!("the picture must be in colour, it is {other:?}"),
        };
        let pixels = buffer
            .chunks_exact(channels)
            .filter_map(|pixel| pixel.first_chunk().copied())
            .collect();
        Ok(Self {
            width: usize::try_from(frame.width)?,
            height: usize::try_from(frame.height)?,
            pixels,
        })
    }

    pub(crate) fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// An error that says which colour it has, unless it shows something on a blue background.
    pub(crate) fn check_blue_background(&self) -> Result<()> {
        let deviation = self.deviation();
        if deviation < DEVIATION_MIN {
            bail!("the picture is empty: its pixels deviate by {deviation:.1} of 255");
        }
        let [red, green, blue] = self.border_mean();
        if blue < red + BLUE_MARGIN || blue < green + BLUE_MARGIN {
            bail!("the background should be blue, its mean is ({red:.0}, {green:.0}, {blue:.0})");
        }
        Ok(())
    }

    /// Standard deviation of all channels of all pixels around each channel's mean.
    fn deviation(&self) -> f64 {
        let mean = mean(self.pixels.iter());
        let squares = self.pixels.iter().flat_map(|pixel| {
            pixel
                .iter()
                .zip(mean)
                .map(|(value, mean)| (f64::from(*value) - mean).powi(2))
        });
        let (sum, count) = squares.fold((0.0, 0.0), |(sum, count), square| {
            (sum + square, count + 1.0)
        });
        if count == 0.0 {
            0.0
        } else {
            f64::sqrt(sum / count)
        }
    }

    /// The mean colour of the outermost sixteenth on every side: what is drawn stands in the middle.
    fn border_mean(&self) -> [f64; 3] {
        let (across, down) = (self.width.div_ceil(16), self.height.div_ceil(16));
        let border = self.pixels.iter().enumerate().filter_map(|(index, pixel)| {
            let (x, y) = (index % self.width, index / self.width);
            let inside = (across..self.width - across).contains(&x)
                && (down..self.height - down).contains(&y);
            (!inside).then_some(pixel)
        });
        mean(border)
    }
}

fn mean<'a>(pixels: impl Iterator<Item = &'a [u8; 3]>) -> [f64; 3] {
    let (sum, count) = pixels.fold(([0.0; 3], 0.0), |(sum, count): ([f64; 3], f64), pixel| {
        let [red, green, blue] = sum;
        let [r, g, b] = pixel.map(f64::from);
        ([red + r, green + g, blue + b], count + 1.0)
    });
    sum.map(|channel| if count == 0.0 { 0.0 } else { channel / count })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [u8; 3] = [200, 30, 30];
    const BLUE: [u8; 3] = [60, 120, 230];

    /// A square of `middle` on `background`, as PNG.
    fn png(background: [u8; 3], middle: [u8; 3]) -> Vec<u8> {
        let mut pixels = Vec::new();
        for y in 0..32 {
            for x in 0..48 {
                let inside = (16..32).contains(&x) && (8..24).contains(&y);
                pixels.extend(if inside { middle } else { background });
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 48, 32);
        encoder.set_color(ColorType::Rgb);
        let mut writer = encoder.write_header().expect("header");
        writer.write_image_data(&pixels).expect("pixels");
        writer.finish().expect("end");
        bytes
    }

    #[test]
    fn something_red_on_blue_passes_at_its_size() {
        let picture = Picture::from_png(&png(BLUE, RED)).expect("picture");
        assert_eq!(picture.size(), (48, 32));
        picture.check_blue_background().expect("blue");
    }

    #[test]
    fn something_blue_on_red_fails() {
        let picture = Picture::from_png(&png(RED, BLUE)).expect("picture");
        let error = picture.check_blue_background().expect_err("red");
        assert!(error.to_string().contains("(200, 30, 30)"), "{error}");
    }

    #[test]
    fn an_empty_picture_fails_whatever_its_colour() {
        let picture = Picture::from_png(&png(BLUE, BLUE)).expect("picture");
        assert!(picture.check_blue_background().is_err());
    }

    #[test]
    fn a_broken_off_png_fails() {
        let bytes = png(BLUE, RED);
        let half = bytes.get(..bytes.len() / 2).expect("half");
        assert!(Picture::from_png(half).is_err());
    }
}
