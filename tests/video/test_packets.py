import pytest

from vidunmask.errors import OutputError
from vidunmask.video.packets import EncodedPacket, PacketWriter, holds, read_packets

PACKETS = [EncodedPacket(512 * i, 512 * i - 1024, 512, i % 3 == 0, bytes([i]) * (100 + i)) for i in range(7)]


@pytest.fixture
def written(tmp_path):
    with PacketWriter(tmp_path / "a.packets") as writer:
        for packet in PACKETS:
            writer.write(packet)
        summary = writer.summary
    return tmp_path / "a.packets", summary


def test_packets_come_back_as_they_were(written):
    assert list(read_packets(*written)) == PACKETS
    assert holds(*written)


@pytest.mark.parametrize("damage", ["cut", "bit", "gone"])
def test_a_file_that_is_not_as_it_was_written_is_noticed(written, damage):
    path, summary = written
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "bit":
        content[200] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    assert not holds(path, summary)
    with pytest.raises(OutputError, match=r"a\.packets"):
        list(read_packets(path, summary))


def test_nothing_appears_where_the_writing_fails(tmp_path):
    def fail():
        with PacketWriter(tmp_path / "a.packets") as writer:
            writer.write(PACKETS[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.packets"
    with PacketWriter(path) as lost:
        lost.write(PACKETS[0])
        with PacketWriter(path) as writer:
            for packet in PACKETS:
                writer.write(packet)
        assert holds(path, writer.summary)
        for packet in PACKETS[1:]:
            lost.write(packet)
    assert holds(path, lost.summary)
    assert list(tmp_path.iterdir()) == [path]
