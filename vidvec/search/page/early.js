// Runs before the page is painted, so that a chosen theme does not come up with a flash.
try {
  const theme = localStorage.getItem("vidvec.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the page is as the system prefers.
}
