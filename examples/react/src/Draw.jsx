import { useState } from "react";
import { useGenerate } from "@scumble/react";

export function Draw() {
  const [prompt, setPrompt] = useState("a red apple on a blue background");
  const { generate, cancel, status, progress, preview, images, timings, error } = useGenerate();
  const isDrawing = status === "submitting" || status === "queued" || status === "running";

  function submit(event) {
    event.preventDefault();
    void generate({ prompt, preview: { every: 2 } });
  }

  return (
    <form onSubmit={submit}>
      <label>
        Prompt <input value={prompt} onChange={(event) => setPrompt(event.target.value)} size={40} />
      </label>
      <button disabled={isDrawing}>Draw</button>
      <button type="button" disabled={!isDrawing} onClick={cancel}>
        Cancel
      </button>
      <progress value={progress?.fraction ?? 0} />
      {error && <p role="alert">{error.message}</p>}
      {images.length === 0 && preview && <img src={preview.src} alt="" width={384} />}
      {images.map((image) => (
        <img key={image.index} src={image.src} alt={prompt} width={384} />
      ))}
      <p role="status">{status === "succeeded" && timings && `Drawn in ${timings.total_ms} ms.`}</p>
    </form>
  );
}
