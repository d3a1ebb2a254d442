"""Pictures that the `image` crate cannot write. Pillow 13.0.0; run in this folder."""

from PIL import Image

colours = Image.new("RGB", (16, 16), (200, 40, 90))
colours.paste((30, 160, 60), (8, 0, 16, 16))
colours.convert("CMYK").save("cmyk.jpg", quality=95)
colours.save("progressive.jpg", quality=95, progressive=True)
frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255))]
frames[0].save("animated.webp", save_all=True, append_images=frames[1:], lossless=True)
frames[0].save("animated.png", save_all=True, append_images=frames[1:])
