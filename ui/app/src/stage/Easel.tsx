import type { CSSProperties } from "react";
import { Crossfade } from "./Crossfade";
import { easelColumns } from "./layout";
import { Scumbles } from "./Scumbles";

/** One place of the batch on the easel. */
export interface Tile {
  index: number;
  /** The newest look at it; `undefined` before the first. */
  src: string | undefined;
  isFinished: boolean;
}

interface EaselProps {
  tiles: readonly Tile[];
  /** Pixels of one image: its proportions, not the size on the page. */
  width: number;
  height: number;
  prompt: string;
  isDrawing: boolean;
  /** What stands there belongs to an earlier picture, or to one that was given up. */
  isStale: boolean;
  selected: number;
  onSelect: (index: number) => void;
}

/** The picture, or the batch side by side, as large as the room allows. */
export function Easel({ tiles, width, height, prompt, isDrawing, isStale, selected, onSelect }: EaselProps) {
  const columns = easelColumns(tiles.length, width / height);
  const style = { "--columns": columns, "--tile-ratio": width / height } as CSSProperties;

  return (
    <div className="easel" style={style} data-stale={isStale} aria-busy={isDrawing}>
      {tiles.map((tile) => {
        const picture = (
          <>
            {tile.src === undefined && <Scumbles />}
            <Crossfade src={tile.src} alt={tile.isFinished ? prompt : ""} />
          </>
        );
        return tiles.length === 1 ? (
          <div key={tile.index} className="tile" data-waiting={isDrawing && tile.src === undefined}>
            {picture}
          </div>
        ) : (
          <button
            key={tile.index}
            type="button"
            className="tile"
            data-waiting={isDrawing && tile.src === undefined}
            aria-label={`Picture ${tile.index + 1} of ${tiles.length}`}
            aria-pressed={!isDrawing && tile.index === selected}
            onClick={() => {
              onSelect(tile.index);
            }}
          >
            {picture}
          </button>
        );
      })}
    </div>
  );
}
