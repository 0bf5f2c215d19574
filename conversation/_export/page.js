const figures = [...document.querySelectorAll("figure")];
const players = figures.map((figure) => figure.querySelector("audio"));

for (const [number, audio] of players.entries()) {
  const figure = figures[number];
  const wave = figure.querySelector("svg");
  const head = figure.querySelector("line");
  const move = () => {
    const at = audio.duration ? (bars(wave) * audio.currentTime) / audio.duration : 0;
    head.setAttribute("x1", at);
    head.setAttribute("x2", at);
    figure.classList.add("begun");
  };
  audio.addEventListener("timeupdate", move);
  audio.addEventListener("seeking", move);
  audio.addEventListener("play", () => {
    for (const other of players) if (other !== audio) other.pause();
  });
  // Such as ADPCM, GSM and 64-bit floats in WAV, which few browsers decode.
  audio.addEventListener("error", () => refuse(figure, audio), { once: true });
  if (audio.error) refuse(figure, audio);
  wave.addEventListener("click", (event) => {
    const box = wave.getBoundingClientRect();
    if (Number.isFinite(audio.duration)) {
      audio.currentTime = (audio.duration * (event.clientX - box.left)) / box.width;
    }
    audio.play();
  });
}

function refuse(figure, audio) {
  if (!figure.isConnected) return;
  const told = document.createElement("p");
  told.className = "words flag";
  const link = document.createElement("a");
  link.setAttribute("href", audio.src);
  link.download = audio.dataset.name;
  link.textContent = "Download it.";
  told.append("This browser cannot play this sound. ", link);
  figure.replaceWith(told);
}

// Each bar is one unit wide.
function bars(wave) {
  return wave.viewBox.baseVal.width;
}

// Compressed sound needs a decoder, so its waveform is drawn here, when it scrolls into view.
async function draw(figure) {
  const count = bars(figure.querySelector("svg"));
  const encoded = figure.querySelector("audio").src.split(",")[1];
  const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
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
    const height = Math.max(peak / loudest, 0.02).toFixed(2);
    return `M${bar + 0.5} -${height}V${height}`;
  });
  figure.querySelector("path").setAttribute("d", lines.join(""));
}

const undrawn = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    undrawn.unobserve(target);
    draw(target).catch(() => {}); // sound that cannot be decoded has no waveform
  }
});
for (const figure of figures) {
  if (!figure.querySelector("path").getAttribute("d")) undrawn.observe(figure);
}
