import type { Scheduler } from "@scumble/sdk";
import { fileName, type Picture } from "../gallery/gallery";
import { DownloadIcon, ReuseIcon } from "../ui/icons";
import { duration, sentence } from "../ui/words";

interface PictureLabelProps {
  picture: Picture;
  schedulers: readonly Scheduler[];
  onReuse: () => void;
}

/** The label on the wall beside a picture: what it is, how it was made, and what one can do with it. */
export function PictureLabel({ picture, schedulers, onReuse }: PictureLabelProps) {
  const { request } = picture;
  const scheduler = schedulers.find((other) => other.name === request.scheduler)?.label ?? request.scheduler;
  return (
    <div className="label">
      <div className="label-text">
        <p className="label-title">{request.prompt}</p>
        {request.negative_prompt !== "" && <p className="label-without">without {request.negative_prompt}</p>}
        <dl className="facts">
          <Fact name="Size" value={`${picture.width} × ${picture.height}`} />
          <Fact name="Seed" value={String(picture.seed)} isNamed />
          <Fact name="Steps" value={`${request.steps} steps`} />
          <Fact name="Guidance" value={String(request.guidance_scale)} isNamed />
          <Fact name="Scheduler" value={scheduler} />
          {picture.timings !== null && (
            <Fact name="Time" value={timeInWords(picture.timings.total_ms, request.n)} />
          )}
        </dl>
        {picture.warnings.map((warning) => (
          <p key={warning} className="hint">
            {sentence(warning)}
          </p>
        ))}
      </div>
      <div className="label-actions">
        <a className="button" href={picture.src} download={fileName(picture)}>
          <DownloadIcon />
          Download
        </a>
        <button type="button" className="button" onClick={onReuse}>
          <ReuseIcon />
          Reuse settings
        </button>
      </div>
    </div>
  );
}

function timeInWords(milliseconds: number, pictures: number): string {
  return pictures === 1 ? duration(milliseconds) : `${duration(milliseconds)} for ${pictures}`;
}

/** Most values say what they are; for the others (`isNamed`) the name is shown too. */
function Fact({ name, value, isNamed = false }: { name: string; value: string; isNamed?: boolean }) {
  return (
    <div>
      <dt className={isNamed ? undefined : "visually-hidden"}>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
