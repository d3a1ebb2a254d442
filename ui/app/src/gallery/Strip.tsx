import type { Picture } from "./gallery";

interface StripProps {
  pictures: readonly Picture[];
  /** The picture on the easel, if it is a finished one. */
  shown: string | null;
  /** What the easel shows while a job runs; `undefined` when none does. */
  drawing: { preview: string | null; onShow: () => void; isShown: boolean } | undefined;
  onShow: (picture: Picture) => void;
}

/** This session's pictures, newest first, the one that is being drawn in front. */
export function Strip({ pictures, shown, drawing, onShow }: StripProps) {
  if (pictures.length === 0 && drawing === undefined) return null;
  return (
    <nav className="strip" aria-label="Pictures of this session">
      <ul>
        {drawing !== undefined && (
          <li>
            <button
              type="button"
              className="thumbnail thumbnail-drawing"
              aria-label="The picture being drawn"
              aria-current={drawing.isShown}
              onClick={drawing.onShow}
            >
              {drawing.preview !== null && <img src={drawing.preview} alt="" />}
            </button>
          </li>
        )}
        {pictures.map((picture) => (
          <li key={picture.id}>
            <button
              type="button"
              className="thumbnail"
              aria-label={`${picture.request.prompt}, seed ${picture.seed}`}
              aria-current={picture.id === shown}
              title={picture.request.prompt}
              onClick={() => {
                onShow(picture);
              }}
            >
              <img src={picture.src} alt="" draggable={false} />
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}
