import io
import sys

from vidunmask.pipelines.progress import ProgressBar


def test_a_run_goes_on_where_nobody_reads_its_progress_any_longer(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Gone())
    with ProgressBar() as bar:
        bar.say("before the first frame")
        bar(1, 2)
        bar.say("after it")
        bar(2, 2)


def test_a_bar_whose_reader_goes_away_in_the_midst_ends_quietly(monkeypatch):
    class Stderr(io.StringIO):
        gone = False

        def write(self, text):
            if self.gone:
                raise BrokenPipeError(32, "Broken pipe")
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", stderr := Stderr())
    with ProgressBar() as bar:
        bar(1, 2)
        assert "0/2" in stderr.getvalue()
        stderr.gone = True
        bar.say("nobody hears it")
        bar(2, 2)
