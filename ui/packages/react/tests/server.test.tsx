// @vitest-environment node
// Rendered on a server: no request, no wasm, no global of the browser.
import { renderToString } from "react-dom/server";
import { expect, it } from "vitest";
import { ScumbleProvider, useGenerate, useJob, useModels } from "../src/index.js";

function Page() {
  const { status, images } = useGenerate();
  const { isLoading } = useModels();
  const job = useJob("job_00000000000000000000000000");
  return <p>{[status, images.length, isLoading, job.isLoading].join(" ")}</p>;
}

it("renders the idle state on a server and asks for nothing", () => {
  expect(typeof document).toBe("undefined");
  const realFetch = globalThis.fetch;
  globalThis.fetch = () => {
    throw new Error("a request was made while rendering");
  };
  const html = renderToString(
    <ScumbleProvider>
      <Page />
    </ScumbleProvider>,
  );
  globalThis.fetch = realFetch;
  expect(html).toBe("<p>idle 0 true true</p>");
});
