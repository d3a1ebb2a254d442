import { Scumble } from "@scumble/sdk";

const form = document.querySelector("form");
const progress = document.querySelector("progress");
const status = document.querySelector("[role=status]");
const picture = document.querySelector("img");

// The worker's address may be given as ?worker=http://…
const baseUrl = new URLSearchParams(location.search).get("worker") ?? "http://127.0.0.1:8600";
const scumble = await Scumble.connect({ baseUrl });

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const stop = new AbortController();
  form.cancel.onclick = () => stop.abort();
  form.cancel.disabled = false;
  try {
    const job = await scumble.generate(
      { prompt: form.prompt.value, preview: { every: 2 } },
      { signal: stop.signal },
    );
    for await (const update of job) {
      if (update.event === "progress") progress.value = update.step / update.total;
      if (update.event === "preview") picture.src = `data:${update.mime_type};base64,${update.b64_json}`;
    }
    const { images, timings } = await job.result();
    picture.src = images[0].url();
    picture.alt = form.prompt.value;
    status.textContent = `Drawn in ${timings.total_ms} ms with seed ${images[0].seed}.`;
  } catch (error) {
    status.textContent = error.message;
  } finally {
    form.cancel.disabled = true;
  }
});
