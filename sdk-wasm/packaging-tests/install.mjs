// Packs the package as npm would publish it and installs the tarball in an empty project.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Gives the project's folder, the names of the packed files, and how to remove it all. */
export function installPacked() {
  const root = fileURLToPath(new URL("../", import.meta.url));
  const project = mkdtempSync(join(tmpdir(), "scumble-consumer-"));
  const packed = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", project], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }),
  );
  const tarball = readdirSync(project).find((name) => name.endsWith(".tgz"));
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({
      name: "consumer",
      private: true,
      type: "module",
      dependencies: { "@scumble/sdk": `file:${tarball}` },
    }),
  );
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund"], { cwd: project, stdio: "ignore" });
  const [details] = Array.isArray(packed) ? packed : Object.values(packed);
  return {
    project,
    files: details.files.map((file) => file.path),
    remove: () => rmSync(project, { recursive: true, force: true }),
  };
}
