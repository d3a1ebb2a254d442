import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The page and the worker share an address this way, as they would behind a proxy of yours.
const proxy = { "/v1": process.env.SCUMBLE_URL ?? "http://127.0.0.1:8600" };

export default defineConfig({ plugins: [react()], server: { proxy }, preview: { proxy } });
