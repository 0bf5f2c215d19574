"use strict";
const still = matchMedia("(prefers-reduced-motion: reduce)");
const bar = document.querySelector(".bar");
const all = bar.querySelector("button");
const players = [...document.querySelectorAll("figure")].map(player);
let current = null; // the player that was started last
let goesOn = false; // to the next sound, after "Play all"

bar.hidden = !players.length;
all.hidden = players.length < 2;
all.addEventListener("click", () => {
  if (current && !current.audio.paused) return pause();
  goesOn = true;
  const ended = !current || current.audio.ended;
  start(ended ? players[(players.indexOf(current) + 1) % players.length] : current);
});
bar.querySelector("select").addEventListener("change", ({ target }) => {
  for (const { audio } of players) audio.defaultPlaybackRate = audio.playbackRate = target.value;
});

function pause() {
  goesOn = false;
  current.audio.pause();
}

function start(player) {
  player.audio.play().catch(() => {});
}

function next(player) {
  const following = players[players.indexOf(player) + 1];
  if (goesOn && following) start(following);
  else goesOn = false;
}

// One control for each sound: a button, and its waveform as the slider. Without scripts there are
// the browser's own.
function player(figure) {
  const audio = figure.querySelector("audio");
  const wave = figure.querySelector(".wave");
  const article = figure.closest("article");
  const it = { figure, audio, wave };
  const button = make("button", "");
  const clock = make("span", "clock");
  button.type = "button";
  audio.controls = false;
  figure.prepend(button);
  figure.append(clock);
  wave.tabIndex = 0;
  for (const [name, value] of [["role", "slider"], ["aria-label", "Position"], ["aria-valuemin", 0]]) {
    wave.setAttribute(name, value);
  }

  const length = () => (Number.isFinite(audio.duration) && audio.duration) || Number(figure.dataset.seconds);
  const show = () => {
    const at = Math.min(audio.currentTime, length());
    const told = `${minutes(at)} of ${minutes(length())}`;
    wave.style.setProperty("--at", length() ? at / length() : 0);
    if (wave.getAttribute("aria-valuetext") === told) return;
    wave.setAttribute("aria-valuemax", Math.ceil(length()));
    wave.setAttribute("aria-valuenow", Math.floor(at));
    wave.setAttribute("aria-valuetext", told);
    clock.textContent = told.replace(" of ", " / ");
  };
  const follow = () => {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const seek = (to) => {
    audio.preload = "auto";
    audio.currentTime = Math.max(0, Math.min(to, length()));
    begin();
    show();
  };
  const begin = () => {
    if (!wave.classList.contains("begun")) wave.append(wave.firstElementChild.cloneNode(true));
    wave.classList.add("begun");
  };
  const toggle = () => {
    if (audio.paused) return start(it);
    current = it;
    pause();
  };
  const changed = () => {
    figure.classList.toggle("on", !audio.paused);
    article.classList.toggle("playing", !audio.paused);
    button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    all.textContent = players.some((one) => !one.audio.paused) ? "Pause" : "Play all";
  };

  audio.addEventListener("play", () => {
    for (const other of players) if (other !== it) other.audio.pause();
    current = it;
    begin();
    changed();
    follow();
    const behavior = still.matches ? "auto" : "smooth";
    if (goesOn) article.scrollIntoView({ block: "nearest", behavior });
  });
  audio.addEventListener("pause", changed);
  audio.addEventListener("ended", () => next(it));
  for (const event of ["timeupdate", "seeking", "durationchange"]) audio.addEventListener(event, show);
  // Such as ADPCM, GSM and 64-bit floats in WAV, which few browsers decode.
  audio.addEventListener("error", () => refuse(it), { once: true });
  button.addEventListener("click", toggle);
  button.setAttribute("aria-label", "Play");

  const place = (event) => {
    const box = wave.getBoundingClientRect();
    seek((length() * (event.clientX - box.left)) / box.width);
  };
  let pressed = 0; // where; a finger that scrolls the page must not seek
  wave.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pressed = event.clientX;
    wave.setPointerCapture(event.pointerId);
  });
  wave.addEventListener("pointermove", (event) => {
    const isDrag = wave.hasPointerCapture(event.pointerId) && Math.abs(event.clientX - pressed) > 8;
    if (isDrag) place(event);
  });
  wave.addEventListener("pointerup", (event) => {
    if (!wave.hasPointerCapture(event.pointerId)) return;
    place(event);
    start(it);
  });
  wave.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    if (event.key === " ") toggle();
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(length());
    else if (event.key in steps) seek(audio.currentTime + steps[event.key]);
    else return;
    event.preventDefault();
  });
  show();
  return it;
}

function make(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

function minutes(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function refuse(player) {
  const { figure, audio } = player;
  const told = make("p", "words flag");
  const link = document.createElement("a");
  link.setAttribute("href", audio.src);
  link.download = audio.dataset.name;
  link.textContent = "Download it.";
  told.append("This browser cannot play this sound. ", link);
  figure.closest("article").classList.remove("playing");
  figure.replaceWith(told);
  if (current === player) next(player);
  players.splice(players.indexOf(player), 1);
  bar.hidden = !players.length;
  all.hidden = players.length < 2;
}

// Compressed sound needs a decoder, so its waveform is drawn here, when it scrolls into view.
async function draw({ audio, wave }) {
  const count = wave.querySelector("svg").viewBox.baseVal.width; // each bar is one unit wide
  const bytes = Uint8Array.from(atob(audio.src.split(",")[1]), (char) => char.charCodeAt(0));
  const decoder = new OfflineAudioContext(1, 1, 24000);
  const samples = (await decoder.decodeAudioData(bytes.buffer)).getChannelData(0);
  const peaks = Array.from({ length: count }, (_, bar) => {
    let peak = 0;
    const end = Math.floor((samples.length * (bar + 1)) / count);
    for (let at = Math.floor((samples.length * bar) / count); at < end; at++) {
      peak = Math.max(peak, Math.abs(samples[at]));
    }
    return peak;
  });
  const loudest = Math.max(...peaks) || 1;
  const lines = peaks.map((peak, bar) => {
    const height = Math.max(peak / loudest, 0.03).toFixed(2);
    return `M${bar + 0.5} -${height}V${height}`;
  });
  for (const path of wave.querySelectorAll("path")) path.setAttribute("d", lines.join(""));
}

function prepare(figure) {
  seen.unobserve(figure);
  const player = players.find((one) => one.figure === figure);
  if (!player) return;
  if (player.audio.preload === "none") player.audio.preload = "metadata";
  // Sound that cannot be decoded has no waveform.
  if (!figure.querySelector("path").getAttribute("d")) return draw(player).catch(() => {});
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) prepare(target);
});
for (const { figure } of players) seen.observe(figure);

// What nobody has scrolled to is made ready in idle time, for captures of the whole page: turns
// are laid out, and the first waveforms are drawn.
const idle = window.requestIdleCallback || setTimeout; // Safari has none
const rest = [...document.querySelectorAll(".long article")];
const figures = players.slice(0, 50).map(({ figure }) => figure);
async function makeReady() {
  for (const article of rest.splice(0, 20)) article.style.contentVisibility = "visible";
  if (!rest.length && figures.length) await prepare(figures.shift());
  if (rest.length || figures.length) idle(makeReady);
}
idle(makeReady);

// Times are the reader's own; a turn's day stands above the first of the day.
let day = "";
for (const time of document.querySelectorAll("time")) {
  const at = new Date(time.dateTime);
  const clock = { hour: "numeric", minute: "2-digit" };
  const date = { day: "numeric", month: "short", year: "numeric" };
  if (Number.isNaN(at.valueOf())) continue;
  time.title = time.textContent;
  const heading = time.closest("article > header");
  if (heading) {
    const words = at.toLocaleDateString([], { weekday: "long", ...date, month: "long" });
    if (words !== day) {
      const line = make("p", "day");
      line.textContent = day = words;
      heading.parentElement.before(line);
    }
    time.textContent = at.toLocaleTimeString([], clock);
  } else if (time.closest("main > header")) {
    time.textContent = at.toLocaleString([], { ...date, ...clock, timeZoneName: "short" });
  } else {
    time.textContent = at.toLocaleString([], { ...date, ...clock });
  }
}

// On paper all is unfolded.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const details of unfolded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
});
