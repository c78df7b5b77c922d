// Renews what is marked data-live once a second, and sends the buttons' forms without leaving the page.
// The server makes whole pages; this only puts their newer parts in place, so without a script nothing is missing.
const SECOND = 1000;
const again = document.getElementById("again");
const lost = document.getElementById("lost");
const pause = document.getElementById("pause");
let asked = 0;
let shown = 0;

async function renew(...request) {
  const turn = ++asked;
  const answer = await fetch(...request);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok || turn < shown) return answer; // an answer that was overtaken is older than what is there
  shown = turn;
  const newer = page.querySelectorAll("[data-live]");
  document.querySelectorAll("[data-live]").forEach((part, place) => {
    if (newer[place] && !part.isEqualNode(newer[place])) part.replaceWith(newer[place]);
  });
  return answer;
}

async function attempt(...request) {
  try {
    const answer = await renew(...request);
    lost.hidden = true;
    return answer;
  } catch {
    lost.hidden = false;
    return null;
  }
}

async function watch() {
  const isPaused = document.hidden || pause.getAttribute("aria-pressed") === "true";
  if (!isPaused) await attempt(location.href);
  setTimeout(watch, SECOND);
}

document.addEventListener("submit", async (event) => {
  if (!event.target.matches("[data-act]")) return;
  const body = new FormData(event.target, event.submitter);
  event.preventDefault();
  event.target.setAttribute("aria-busy", "true");
  const answer = await attempt(event.target.action, { method: "POST", body });
  if (answer?.ok) history.replaceState(null, "", answer.url);
  event.target.removeAttribute("aria-busy");
});

pause.addEventListener("click", () => {
  pause.setAttribute("aria-pressed", pause.getAttribute("aria-pressed") === "true" ? "false" : "true");
});

again.hidden = true;
pause.hidden = false;
setTimeout(watch, SECOND);
