/** The proportions of the whole batch side by side. */
export function easelRatio(count: number, width: number, height: number): number {
  const columns = easelColumns(count, width / height);
  return (columns * width) / (Math.ceil(count / columns) * height);
}

/** Columns that make the whole most nearly square. */
export function easelColumns(count: number, ratio: number): number {
  let best = 1;
  let bestDistance = Infinity;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const empty = columns * rows - count;
    const distance = Math.abs(Math.log((columns * ratio) / rows)) + empty * 0.3;
    if (distance <= bestDistance) [best, bestDistance] = [columns, distance];
  }
  return best;
}
