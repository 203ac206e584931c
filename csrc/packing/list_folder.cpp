#include "packing/list_folder.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include "common/file.h"

namespace lds {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const noexcept { closedir(folder); }
};

char lower(char letter) noexcept {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

bool ends_in(std::string_view name, std::string_view extension) noexcept {
  if (name.size() < extension.size()) return false;
  const std::string_view tail = name.substr(name.size() - extension.size());
  return std::equal(tail.begin(), tail.end(), extension.begin(), [](char a, char b) { return lower(a) == b; });
}

bool is_folder(DIR* folder, const dirent& entry) noexcept {
  if (entry.d_type != DT_UNKNOWN && entry.d_type != DT_LNK) return entry.d_type == DT_DIR;
  const int descriptor = dirfd(folder);
  struct stat status{};
  return descriptor >= 0 && fstatat(descriptor, entry.d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char letter) { return static_cast<unsigned char>(letter) < 128; });
}

Error not_listable(const std::string& path) { return system_error(path + " can't be listed"); }

// Sorts the names within one string: a million small strings would cost more than the listing itself.
std::string sorted(const std::string& block, size_t count) {
  std::vector<std::string_view> names;
  names.reserve(count);
  for (size_t at = 0; at < block.size();) {
    const std::string_view name(block.data() + at);
    names.push_back(name);
    at += name.size() + 1;
  }
  if (std::is_sorted(names.begin(), names.end())) return block;
  std::sort(names.begin(), names.end());
  std::string out;
  out.reserve(block.size());
  for (const std::string_view name : names) out.append(name).push_back('\0');
  return out;
}

}  // namespace

FolderList list_folder(const std::string& path, const std::vector<std::string>& extensions) {
  const std::unique_ptr<DIR, CloseFolder> folder(opendir(path.c_str()));
  if (!folder) throw not_listable(path);
  FolderList found;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(folder.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (is_folder(folder.get(), *entry)) {
      found.folders.emplace_back(name);
    } else if (std::any_of(extensions.begin(), extensions.end(), [&](const auto& e) { return ends_in(name, e); })) {
      found.images.append(name).push_back('\0');
      ++found.count;
    }
  }
  if (errno != 0) throw not_listable(path);
  found.ascii = is_ascii(found.images);
  if (found.ascii) found.images = sorted(found.images, found.count);
  return found;
}

}  // namespace lds
