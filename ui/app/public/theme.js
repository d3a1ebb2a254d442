/* global document, localStorage */
// Runs before the first paint, so that a remembered theme never flashes the other one.
// A file of its own because the page's policy forbids inline scripts.
try {
  const theme = localStorage.getItem("scumble.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is forbidden: the system's theme it is.
}
