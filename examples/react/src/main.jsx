import { createRoot } from "react-dom/client";
import { ScumbleProvider } from "@scumble/react";
import { Draw } from "./Draw.jsx";

createRoot(document.getElementById("root")).render(
  <ScumbleProvider baseUrl={location.origin}>
    <Draw />
  </ScumbleProvider>,
);
