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

async function act(form, button) {
  const filled = () => ({ method: "POST", body: new FormData(form, button) });
  let answer = await attempt(form.action, filled());
  if (answer?.status === 403) {
    // Who signs in in another tab gets another CSRF token; a newer page has it.
    await attempt(location.href);
    answer = await attempt(form.action, filled());
  }
  if (answer?.ok) history.replaceState(null, "", answer.url);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-act]")) return;
  event.preventDefault();
  form.setAttribute("aria-busy", "true");
  await act(form, event.submitter);
  form.removeAttribute("aria-busy");
});

pause.addEventListener("click", () => {
  pause.setAttribute("aria-pressed", pause.getAttribute("aria-pressed") === "true" ? "false" : "true");
});

again.hidden = true;
pause.hidden = false;
setTimeout(watch, SECOND);
