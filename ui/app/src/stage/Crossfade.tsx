import { useState } from "react";

interface Layer {
  key: number;
  src: string;
}

/** Layers kept at most: previews may come faster than they fade in. */
const layersMax = 3;

interface CrossfadeProps {
  /** While it is `undefined`, what was shown before stays. */
  src: string | undefined;
  alt: string;
}

/** A picture that lays each new version over the last, so that previews sharpen instead of flickering. */
export function Crossfade({ src, alt }: CrossfadeProps) {
  const [layers, setLayers] = useState<readonly Layer[]>([]);
  const top = layers.at(-1);
  if (src !== undefined && src !== top?.src) {
    setLayers([...layers, { key: (top?.key ?? 0) + 1, src }].slice(-layersMax));
  }

  function dropBelow(key: number): void {
    setLayers((current) => current.filter((layer) => layer.key >= key));
  }

  return (
    <>
      {layers.map((layer) => (
        <img
          key={layer.key}
          className="layer"
          src={layer.src}
          alt={layer === top ? alt : ""}
          draggable={layer === top}
          onAnimationEnd={() => {
            dropBelow(layer.key);
          }}
        />
      ))}
    </>
  );
}
