import { PNG } from "pngjs";

type Rgb = readonly [red: number, green: number, blue: number];

/** The plain backgrounds that the embedded model was trained on, by the names that its captions give them. */
const namedColors: Record<string, Rgb> = {
  red: [225, 45, 50],
  orange: [245, 140, 35],
  yellow: [250, 215, 60],
  green: [60, 165, 75],
  blue: [50, 105, 220],
  purple: [135, 70, 190],
  pink: [245, 150, 190],
  white: [250, 250, 250],
  black: [22, 22, 26],
  gray: [140, 144, 150],
  teal: [40, 160, 160],
  brown: [125, 80, 50],
};

export interface Picture {
  width: number;
  height: number;
  /** The name nearest to the mean colour of the picture's outermost pixels. */
  borderColor: string;
}

export function readPicture(png: Buffer): Picture {
  const { width, height, data } = PNG.sync.read(png);
  const sum = [0, 0, 0];
  let count = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (x > 0 && x < width - 1 && y > 0 && y < height - 1) continue;
      const offset = (y * width + x) * 4;
      for (const channel of [0, 1, 2]) sum[channel] = (sum[channel] ?? 0) + (data[offset + channel] ?? 0);
      count += 1;
    }
  }
  const mean = sum.map((total) => total / count);
  const distance = (color: Rgb): number =>
    color.reduce((total, value, channel) => total + (value - (mean[channel] ?? 0)) ** 2, 0);
  const [nearest] = Object.entries(namedColors).sort(
    ([, left], [, right]) => distance(left) - distance(right),
  );
  return { width, height, borderColor: nearest?.[0] ?? "" };
}
